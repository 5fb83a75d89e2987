"""``medcyclegan synthesize`` as a user types it."""

import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from support.label_phantoms import label_array, write_labels

from medcyclegan.cli import synthesize
from medcyclegan.cli.main import main
from medcyclegan.synthesis import CONTRASTS


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_labels(tmp_path / "head.nii.gz")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["synthesize", *arguments])


def test_contrasts_are_named_one_after_the_other(workspace):
    result = run(
        "head.nii.gz", "--contrasts", "t1", "t2", "ct", "--patients", "1", "--spacing-mm", "5", "--out", "heads"
    )
    assert (result.exit_code, result.stdout) == (0, "heads\n"), result.stderr
    assert sorted(p.name for p in (workspace / "heads").iterdir()) == ["ct", "t1", "t2"]
    again = run("--contrasts", "t1", "t2,ct", "head.nii.gz", "--patients=1", "--spacing-mm=5", "--out=heads")
    assert again.exit_code == 0
    assert "1 of 1 patients exist already" in again.stderr


def test_the_names_are_those_of_the_package():
    assert synthesize._CONTRASTS == CONTRASTS


def test_a_table_of_labels(workspace):
    labels = label_array()
    labels[labels == 515] = 7777
    write_labels(workspace / "own.nii.gz", labels)
    rows = [f"{n},{t}" for n, t in ((0, "air"), (7777, "cortical bone"), (511, "scalp"), (507, "soft tissue"))]
    rows += [f"{n},white matter" for n in (2, 41)] + [f"{n},grey matter" for n in (3, 42)]
    rows += [f"{n},cerebrospinal fluid" for n in (4, 43, 24)] + [f"{n},putamen" for n in (12, 51)]
    (workspace / "table.csv").write_text("\n".join(["label,tissue", *rows, "506,eyeball"]))
    arguments = ("own.nii.gz", "--patients", "1", "--spacing-mm", "5", "--labels-table", "table.csv")
    failed = run(*arguments)
    assert failed.exit_code == 1
    assert "512 (" in failed.stderr
    with (workspace / "table.csv").open("a") as file:
        file.write("\n512,spinal cord\n")
    assert run(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.stack([label_array()] * 2, axis=-1), "a 4-D file of 2 volumes of 48 x 56 x 56 voxels"),
        (np.where(label_array() == 2, np.nan, label_array()), "voxels are not finite (NaN or infinite)"),
        (np.where(label_array() == 24, 0, label_array()), "whose brain is not connected to the larger rest"),
        (np.zeros((48, 56, 56)), "0 cm3 of grey and white matter"),
        (label_array()[20:24, 20:24, 20:24], "the label map has 4x4x4 voxels of 4x4x4 mm"),
    ],
)
def test_a_bad_label_map_is_a_line_without_options_that_do_not_exist(workspace, array, message):
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0])), workspace / "bad.nii.gz")
    result = run("bad.nii.gz", "--patients", "1", "--device", "cpu")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "Error: bad.nii.gz: " in result.stderr
    assert message in result.stderr
    assert not set(re.findall(r"--[a-z-]+", result.stderr)) - {"--labels-table"}
    assert not (workspace / "volumes").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.nii.gz",), 1, "Error: none.nii.gz: no such file or folder"),
        (("head.nii.gz", "--contrasts", "t3"), 2, "Error: contrasts t3: choose from t1, t2, pd, flair, ct"),
        (("head.nii.gz", "--spacing-mm", "0.01"), 2, "Error: spacing_mm 0.01: voxels must be 0.4 to 6 mm wide"),
        (("head.nii.gz", "--out", "."), 2, "Error: --out .: give the folder a name"),
        (("head.nii.gz", "--out", "x/.."), 2, "Error: --out x/..: give the folder a name"),
        ((".",), 2, "Error: --out volumes is inside ., where the next call would take its volumes for label maps"),
        ((), 2, "Missing argument"),
    ],
)
def test_mistakes_are_a_line(workspace, arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
