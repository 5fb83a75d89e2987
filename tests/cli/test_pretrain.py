"""``medcyclegan pretrain`` as a user types it."""

import json

import pytest
from click.testing import CliRunner
from support.label_phantoms import write_labels
from support.models import tiny_model

from medcyclegan.cli.main import main

UNET = ("--set", "networks.generator.kind=unet")
NO_LOSS = ("--set", "pretraining.l1_weight=0", "--set", "pretraining.gradient_weight=0")
SMALL = [
    *("--config", "smoke", "--device", "cpu", "--set", "slicing.size=32", "--set", "slicing.pixel_mm=8"),
    *("--set", "networks.discriminator.layers=1", "--set", "pretraining.workers=0"),
]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_labels(tmp_path / "labels" / "head.nii.gz")
    (tmp_path / "t.csv").write_text("label,tissue\n0,air\n")
    tiny_model().save(tmp_path / "model")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [*arguments])


@pytest.mark.filterwarnings("ignore::UserWarning:monai", "ignore::DeprecationWarning")
def test_a_run_from_label_maps_to_a_model_and_on(workspace):
    result = run("pretrain", "labels", "--domains", "t1", "ct", *SMALL, "--max-steps", "3", "--out", "runs")
    assert result.exit_code == 0, result.stderr
    folder = workspace / result.stdout.strip()
    model = json.loads((folder / "model" / "model.json").read_text())
    assert [model["domains"][name]["modality"] for name in "AB"] == ["MR", "CT"]
    again = run("pretrain", "--resume", "--device", "cpu")
    assert (again.exit_code, again.stdout) == (0, result.stdout)
    started = run("pretrain", "labels", "--domains", "t1", "ct", *SMALL, "--init-from", "runs/latest/model")
    assert started.exit_code == 0, started.stderr
    assert model["provenance"]["steps"] <= 3
    assert run("report", "runs/latest", "--out", "page.html").exit_code == 0
    assert "head.nii.gz" in (folder / "run.json").read_text()
    assert "head.nii.gz" not in (workspace / "page.html").read_text(), "a report holds no path"


@pytest.mark.filterwarnings("ignore::UserWarning:monai", "ignore::DeprecationWarning")
def test_a_store_named_by_the_link_to_the_newest_run(workspace):
    settings = [*SMALL, "--max-steps", "1", "--domains", "t1", "ct"]
    assert run("pretrain", "labels", *settings).exit_code == 0
    reference = (workspace / "runs" / "latest").resolve() / "reference"
    result = run("pretrain", "--slices", "runs/latest/reference", *settings)
    assert result.exit_code == 0, result.stderr
    record = json.loads((workspace / result.stdout.strip() / "run.json").read_text())
    assert (workspace / "runs" / "latest" / record["slices"]).resolve() == reference


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Error: name either label maps or, with --slices, a slice store"),
        (("labels", "--slices", "slices"), 2, "Error: name either label maps or, with --slices, a slice store"),
        (("labels", "--domains", "t1", "t3"), 2, "Error: --domains t1 t3: name two different contrasts from t1, t2"),
        (("none",), 1, "Error: none: no such file or folder"),
        (("labels", "--resume", "runs/latest"), 2, "Error: --resume uses the run's label maps and configuration"),
        (("--resume", "runs/latest", "--out", "other"), 2, "Error: --resume runs/latest writes to that folder"),
        (("--resume",), 1, "Error: runs/latest: there is no run to continue"),
        (("labels", "--set", "pretraining.extracted_fraction=2"), 2, "pretraining.extracted_fraction"),
        (("labels", *NO_LOSS), 2, "all weights are 0"),
        (("labels", "--set", "losses.cycle_weight=1"), 2, "--set losses.cycle_weight: pretrain does not use this"),
        (("labels", "--set", "validation.key_metric=psnr"), 2, "--set validation.key_metric: pretrain does not use"),
        (("labels", "--set", "slicing.test_fraction=0"), 2, "--set slicing.test_fraction: pretrain does not use"),
        (("--slices", "labels", "--set", "pretraining.targets=scan"), 2, "--set pretraining.targets: pretrain does"),
        (("labels", "--init-from", "missing"), 1, "Error: missing is neither a folder nor a shipped model"),
        (("--slices", "none", "--labels-table", "t.csv"), 2, "Error: --labels-table explains label maps, but --slices"),
        (("labels", *UNET, "--set", "slicing.size=36"), 1, "slices of 36 pixels cannot be halved 5 times"),
        (("labels", *UNET, "--init-from", "model"), 1, "Error: --init-from: it has networks.generator.kind=resnet"),
        (("labels", *SMALL, "--set", "networks.discriminator.layers=6"), 1, "networks.discriminator.layers = 6 leaves"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(workspace, arguments, code, message):
    result = run("pretrain", *arguments, "--device", "cpu")
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(workspace.glob("runs/*"))
