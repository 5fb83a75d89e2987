"""Outputs are marked as synthetic in every format and are refused as inputs unless allowed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner
from PIL import Image
from support import dicom_phantoms as made
from support import dicom_readback as peers
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti

from medcyclegan import Volume, translate_volume
from medcyclegan.cli.main import main
from medcyclegan.errors import IntensityError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import ReadOptions, read_volume, write_output, write_volume
from medcyclegan.io.images import IMAGE_AFFINE
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.io.inspected import InspectedVolume
from medcyclegan.io.sidecar import MADE_BY, sidecar_path
from medcyclegan.slicing import slice_volumes

REFUSED = "says that it is synthetic, not acquired: name the acquired volume, or pass --allow-synthetic"
SAYS = {
    "a.nii": "its descrip", "a.nii.gz": "its descrip", "a.mha": "its Comment", "a.nrrd": "its Comment",
    "a.png": "its comment", "a.jpg": "its comment", "a": "its SyntheticData",
}  # fmt: skip


def acquired(folder: Path, name: str) -> Volume:
    """Return a volume that can be written under ``name``, as if a scanner had acquired it."""
    if name.endswith((".png", ".jpg")):
        values = np.random.default_rng(0).integers(0, 256, (40, 40, 1)).astype(np.uint8)
        return Volume(values, IMAGE_AFFINE, value_range=(0.0, 255.0))
    volume = head_mr((40, 40, 6), make_affine("LPS", (5.0, 5.0, 8.0)))
    if "." in name:
        return volume
    whole = volume.replace(array=np.rint(volume.array).astype(np.int16), modality="MR")
    made.save(made.slices_of(whole), folder / "scan")
    return read_volume(folder / "scan")


def translated(volume: Volume) -> Volume:
    return volume.replace(derivation=peers.made_from(volume, "MR").derivation)


def row_of(path: Path, *, allow: bool) -> InspectedVolume:
    (row,) = inspect_paths([path], ReadOptions(allow_synthetic=allow)).volumes
    return row


@pytest.mark.parametrize("name", SAYS)
def test_outputs_are_marked_as_synthetic_and_refused_as_inputs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out" / name
    write_output(translated(acquired(tmp_path, name)), path)
    assert list((tmp_path / "out").iterdir()) == [path], "no JSON file is needed to tell"
    found = read_volume(path)
    assert (found.synthetic, found.is_synthetic, found.derivation) == (True, True, None)
    with pytest.raises(IntensityError, match=f"{SAYS[name]} {REFUSED}"):
        read_volume(path, allow_synthetic=False)
    row = row_of(path, allow=False)
    assert (row.verdict, row.options, row.synthetic) == ("ok with options", ("--allow-synthetic",), True)
    assert row.reason.endswith(f"{SAYS[name]} {REFUSED}")
    row = row_of(path, allow=True)
    assert (row.verdict, row.options, row.reason, row.synthetic) == ("ok", (), "", True)
    assert f"{SAYS[name]} says that it is synthetic, not acquired" in row.notes


@pytest.mark.parametrize("name", [name for name in SAYS if "." in name])
def test_acquired_volumes_have_no_mark(name: str, tmp_path: Path) -> None:
    """A DICOM series written here is always a derived one; see dicom/write/test_series.py."""
    volume = acquired(tmp_path, name)
    write_volume(volume, tmp_path / name)
    found = read_volume(tmp_path / name, allow_synthetic=False)
    assert not found.is_synthetic
    row = row_of(tmp_path / name, allow=False)
    assert (row.verdict, row.options, row.synthetic) == ("ok", (), False)


def test_a_scanners_series_is_acquired(tmp_path: Path) -> None:
    slices = made.slices_of(made.placed_volume())
    for statement in (None, "NO"):
        for dataset in slices:
            dataset.SyntheticData = statement
        made.save(slices, tmp_path / "in")
        assert not read_volume(tmp_path / "in", allow_synthetic=False).synthetic
    slices[3].SyntheticData = "YES"
    made.save(slices, tmp_path / "in")
    with pytest.raises(IntensityError, match=f"in: series …[.0-9]*: its SyntheticData {REFUSED}"):
        read_volume(tmp_path / "in", allow_synthetic=False)


def test_an_enhanced_series_is_recognized_as_synthetic(tmp_path: Path) -> None:
    dataset = made.enhanced_of(made.placed_volume())
    dataset.SyntheticData = "YES"
    made.save([dataset], tmp_path / "in")
    with pytest.raises(IntensityError, match=f"its SyntheticData {REFUSED}"):
        read_volume(tmp_path / "in", allow_synthetic=False)
    assert row_of(tmp_path / "in", allow=False).options == ("--allow-synthetic",)


@pytest.mark.parametrize("name", SAYS)
def test_the_mark_is_kept_between_formats(name: str, tmp_path: Path) -> None:
    write_output(translated(acquired(tmp_path, name)), tmp_path / name)
    found = read_volume(tmp_path / name)
    for other in ("b.png", "b.jpg") if found.value_range else ("b.nii", "b.nii.gz", "b.mha", "b.nrrd"):
        write_volume(found, tmp_path / other)
        assert read_volume(tmp_path / other).synthetic, other


def test_other_programs_find_the_mark(tmp_path: Path) -> None:
    volume, picture = translated(acquired(tmp_path, "a.nii")), translated(acquired(tmp_path, "a.png"))
    for name in SAYS:
        if "." in name:
            write_output(picture if name.endswith(("png", "jpg")) else volume, tmp_path / name)
    for name in ("a.nii", "a.nii.gz"):
        assert nib.load(tmp_path / name).header["descrip"] == b"medcyclegan synthetic"
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {"Comment": "medcyclegan synthetic"}
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["comment"] == b"medcyclegan synthetic"
    nrrd = sitk.ReadImage(tmp_path / "a.nrrd")
    assert nrrd.GetMetaData("Comment") == "medcyclegan synthetic"
    assert b"\nComment = medcyclegan synthetic\n" in (tmp_path / "a.mha").read_bytes()
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "a.mha")), sitk.GetArrayFromImage(nrrd))


def test_the_mark_outlives_what_others_do_with_the_header(tmp_path: Path) -> None:
    write_output(translated(acquired(tmp_path, "a.nii")), tmp_path / "a.nii")
    image = nib.load(tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(image.get_fdata()[::2], image.affine, image.header), tmp_path / "smaller.nii.gz")
    with pytest.raises(IntensityError, match=REFUSED):
        read_volume(tmp_path / "smaller.nii.gz", allow_synthetic=False)


@pytest.mark.parametrize("name", SAYS)
def test_the_sidecar_of_a_volume_marks_it(name: str, tmp_path: Path) -> None:
    """As for volumes whose header was rewritten by another program."""
    path = tmp_path / name
    volume = acquired(tmp_path, name)
    if "." in name:
        write_volume(volume, path)
    else:
        (tmp_path / "scan").rename(path)
    for content in ('{"made_by": "somebody else"}', '{"Modality": "MR"}', "[1]", "{", "\xff"):
        sidecar_path(path).write_text(content)
        assert not read_volume(path, allow_synthetic=False).synthetic, content
    sidecar_path(path).write_text(json.dumps({"made_by": MADE_BY, "synthetic": True}))
    with pytest.raises(IntensityError, match=f"its JSON sidecar {REFUSED}"):
        read_volume(path, allow_synthetic=False)
    assert read_volume(path).synthetic
    assert row_of(path, allow=False).options == ("--allow-synthetic",)


@pytest.mark.skipif(bool(peers.MISSING_TOOLS), reason=peers.MISSING_TOOLS or "all there")
def test_dcm2niix_passes_it_on(tmp_path: Path) -> None:
    write_output(translated(acquired(tmp_path, "a")), tmp_path / "series")
    dcm2niix = Path(sys.executable).parent / "dcm2niix"
    command = [str(dcm2niix), "-b", "y", "-z", "n", "-f", "out", "-o", str(tmp_path), str(tmp_path / "series")]
    subprocess.run(command, capture_output=True, check=True)
    with pytest.raises(IntensityError, match=f"its JSON sidecar {REFUSED}"):
        read_volume(tmp_path / "out.nii", allow_synthetic=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write ``volumes/mr``: a scan, and one output of each format, named after a patient."""
    folder = tmp_path / "volumes" / "mr"
    scan = acquired(tmp_path, "a.nii")
    write_volume(scan, folder / "scan.nii.gz")
    write_output(translated(acquired(tmp_path, "a")), folder / "JohnDoe-dicom")
    write_output(translated(scan.replace(array=scan.array + 1)), folder / "JohnDoe-nifti.nii.gz")
    write_volume(scan.replace(array=scan.array + 2), folder / "JohnDoe-sidecar.nii.gz")
    (folder / "JohnDoe-sidecar.json").write_text(json.dumps({"made_by": MADE_BY}))
    return tmp_path


def test_slicing_refuses_it_unless_allowed(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = slice_volumes(tree / "volumes", tree / "slices")
    assert (len(result.sliced), len(result.refused)) == (1, 3)
    assert all(refusal.reason.endswith(REFUSED) for refusal in result.refused)
    assert "JohnDoe" not in (tree / "slices" / "refused.jsonl").read_text()
    allowed = slice_volumes(tree / "volumes", tree / "slices", allow_synthetic=True)
    assert allowed.refused == ()
    noted = ["synthetic, not acquired (--allow-synthetic)" in row.notes for row in allowed.sliced]
    assert sorted(noted) == [False, True, True, True]


def test_the_command_line_has_the_option(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    result = CliRunner().invoke(main, ["slice-volumes"])
    assert result.exit_code == 1
    assert result.stderr.count(REFUSED) == 3
    assert CliRunner().invoke(main, ["slice-volumes", "--allow-synthetic"]).exit_code == 0
    table = CliRunner().invoke(main, ["inspect", "volumes"]).stdout
    assert table.count("ok with --allow-synthetic") == 3
    assert table.count("MR synthetic") == 1
    assert "--allow-synthetic" not in CliRunner().invoke(main, ["inspect", "volumes", "--allow-synthetic"]).stdout


def test_translation_refuses_it_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().save(tmp_path / "model")
    write_nifti(head_ct((40, 40, 4), make_affine("LPS", (5.0, 5.0, 8.0))), tmp_path / "ct.nii.gz")
    translate_file(tmp_path / "ct.nii.gz", tmp_path / "mr.nii.gz", model, TranslationOptions(to="mr"))
    assert "input_synthetic" not in json.loads((tmp_path / "mr.json").read_text())
    back = TranslationOptions(to="ct")
    with pytest.raises(IntensityError, match=f"mr.nii.gz: its descrip {REFUSED}"):
        translate_file(tmp_path / "mr.nii.gz", tmp_path / "again.nii.gz", model, back)
    assert not (tmp_path / "again.nii.gz").exists()
    monkeypatch.chdir(tmp_path)
    command = ["translate-volume", "mr.nii.gz", "again.nii.gz", "--model", "model", "--to", "ct"]
    assert CliRunner().invoke(main, command).exit_code == 1
    assert CliRunner().invoke(main, [*command, "--allow-synthetic"]).exit_code == 0
    assert json.loads((tmp_path / "again.json").read_text())["input_synthetic"] is True


def test_translation_in_python_refuses_what_was_read(tmp_path: Path) -> None:
    model = tiny_model()
    scan = head_ct((40, 40, 4), make_affine("LPS", (5.0, 5.0, 8.0)))
    fake = translate_volume(scan, model, to="mr")
    assert fake.is_synthetic
    assert not fake.synthetic
    translate_volume(fake, model, to="ct")  # a round trip in one's own code is no accident
    write_volume(fake, tmp_path / "fake.nii")
    read = read_volume(tmp_path / "fake.nii")
    with pytest.raises(IntensityError, match=r"says that it is synthetic.*allow_synthetic=True"):
        translate_volume(read, model, to="ct")
    again = translate_volume(read, model, to="ct", allow_synthetic=True)
    assert again.derivation is not None
    assert "The input was synthetic" in again.derivation.settings


def test_an_uncertainty_map_is_marked_too(tmp_path: Path) -> None:
    model = tiny_model().save(tmp_path / "model")
    write_nifti(head_ct((40, 40, 4), make_affine("LPS", (5.0, 5.0, 8.0))), tmp_path / "ct.nii.gz")
    options = TranslationOptions(to="mr", uncertainty=tmp_path / "uncertainty.nii.gz")
    translate_file(tmp_path / "ct.nii.gz", tmp_path / "mr.nii.gz", model, options)
    assert read_volume(tmp_path / "uncertainty.nii.gz").synthetic


def test_every_reading_option_is_in_read_volume_too() -> None:
    import inspect

    taken = {name: given.default for name, given in inspect.signature(read_volume).parameters.items() if name != "path"}
    assert taken == {field.name: field.default for field in dataclasses.fields(ReadOptions)}


def test_given_options_are_those_that_are_not_the_default() -> None:
    assert ReadOptions().given() == {}
    assert ReadOptions(volume=0, allow_gap=True).given() == {"volume": 0, "allow_gap": True}
    assert ReadOptions().for_acquired(allow_synthetic=False).given() == {"allow_synthetic": False}
    assert ReadOptions(nan="fill").for_acquired(allow_synthetic=True).given() == {"nan": "fill"}


def test_dicom_keeps_its_own_statement(tmp_path: Path) -> None:
    write_output(translated(acquired(tmp_path, "a")), tmp_path / "out")
    assert {pydicom.dcmread(path).SyntheticData for path in (tmp_path / "out").iterdir()} == {"YES"}
