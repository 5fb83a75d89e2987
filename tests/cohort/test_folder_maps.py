"""A map and a preview of each result in a folder of results."""

import dataclasses
import json
import os
import shutil

from support.calibrations import calibrated
from support.exports import GRID, outputs, run
from support.models import MR, tiny_model
from support.phantoms import head_ct, write_nifti

from medcyclegan import read_volume
from medcyclegan.model import DomainModel, ModelBundle


def maps(*folders):
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if path.is_file())


def test_each_result_has_a_map_and_a_preview_of_its_name(export):
    result = run("export", "out", "--to", "mr", "--uncertainty", "maps.v2", "--preview", "previews", "--tta")
    assert result.exit_code == 0, result.output
    names = ["more/head", "patient-001/series-01", "patient-002/series-01"]
    assert outputs(export / "out") == names
    assert maps(export / "maps.v2") == [f"{export}/maps.v2/{name}.nii.gz" for name in names]
    assert maps(export / "previews") == [f"{export}/previews/{name}.png" for name in names]
    for name in names:
        shape = read_volume(export / "out" / (name if "series" in name else f"{name}.nii.gz")).shape
        assert read_volume(export / "maps.v2" / f"{name}.nii.gz").shape == shape
        sidecar = json.loads((export / "out" / f"{name}.json").read_text())
        assert sidecar["uncertainty"]["calibrated"] is False


def test_maps_and_previews_are_added_and_kept_like_results(export):
    options = ("--uncertainty", "maps", "--preview", "maps", "--tta")
    assert "3 translated" in run("export", "out", "--to", "mr", "--tta").stdout
    assert "3 translated" in run("export", "out", "--to", "mr", *options).stdout, "results have no maps yet"
    assert "3 unchanged" in run("export", "out", "--to", "mr", *options).stdout
    assert "3 unchanged" in run("export", "out", "--to", "mr", "--tta").stdout
    (export / "maps/more/head.png").unlink()
    assert "1 translated, 2 unchanged" in run("export", "out", "--to", "mr", *options).stdout
    # a map of another run is not replaced
    before = (export / "maps/more/head.nii.gz").read_bytes()
    result = run("export", "other", "--to", "mr", *options)
    assert result.exit_code == 1
    assert "head.nii.gz exists, and was not made by this command" in result.output
    assert (export / "maps/more/head.nii.gz").read_bytes() == before
    assert outputs(export / "other") == []
    assert "3 translated" in run("export", "other", "--to", "mr", *options, "--overwrite").stdout


def test_a_map_never_replaces_an_input(export):
    """Maps are named like results, and a result like its input: the map of one input may have the name of another."""
    for name in ("a.nii", "a.nii.gz"):
        write_nifti(head_ct(*GRID), export / name)
    before = (export / "a.nii.gz").read_bytes()
    result = run("a.nii", "a.nii.gz", "out", "--to", "mr", "--uncertainty", ".", "--tta", "--overwrite")
    assert result.exit_code == 2
    assert "a.nii.gz is an input: name another folder" in result.output
    assert (export / "a.nii.gz").read_bytes() == before
    assert outputs(export / "out") == []


def test_a_map_of_another_model_is_not_that_of_a_result(export):
    words = ("export/more", "out", "--to", "mr", "--tta")
    assert "1 translated" in run(*words, "--uncertainty", "maps").stdout
    shutil.rmtree(export / "model")
    tiny_model(b=DomainModel("mr", "MR", dataclasses.replace(MR, upper=900.0))).save(export / "model")
    assert "1 failed" in run(*words, "--uncertainty", "maps").stdout
    assert "1 translated" in run(*words, "--overwrite").stdout
    result = run(*words, "--uncertainty", "maps")
    assert "1 failed" in result.stdout, "the map is that of the earlier model"
    assert "head.nii.gz exists, and was not made by this command with these settings" in result.output
    assert "1 translated" in run(*words, "--uncertainty", "maps", "--overwrite").stdout
    assert "1 unchanged" in run(*words, "--uncertainty", "maps").stdout


def test_a_map_from_before_the_calibration_is_not_kept(export):
    words = ("export/more", "out", "--to", "mr", "--uncertainty", "maps")
    assert "1 translated" in run(*words).stdout
    model = calibrated(ModelBundle.load(export / "model"), "mr")
    shutil.rmtree(export / "model")
    model.save(export / "model")
    result = run(*words)
    assert "1 failed" in result.stdout
    assert "head.nii.gz exists, and was not made by this command with these settings" in result.output
    assert "1 translated" in run(*words, "--overwrite").stdout
    assert json.loads((export / "out/head.json").read_text())["uncertainty"]["calibrated"] is True
    assert "1 unchanged" in run(*words).stdout


def test_results_and_maps_that_were_moved_together_are_kept(export):
    words = ("export/more", "--to", "mr", "--tta")
    assert "1 translated" in run(*words, "-o", "work/out", "--uncertainty", "work/maps").stdout
    os.rename("work", "moved")
    assert "1 unchanged" in run(*words, "-o", "moved/out", "--uncertainty", "moved/maps").stdout
