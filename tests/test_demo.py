"""The demo, shortened to two steps: the files it writes, its output, and folders that it does not remove."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medcyclegan.cli.main import main
from medcyclegan.config import load_config
from medcyclegan.demo import run_demo
from medcyclegan.errors import TrainingError, WriteError
from medcyclegan.io import read_volume
from medcyclegan.pictures import comparison_panel
from medcyclegan.report import ReportOptions, write_report

SHORT = ["--heads", "1", "1", "--set", "training.max_steps=2", "--set", "networks.generator.filters=4"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("x") / "demo"
    result = CliRunner().invoke(main, ["demo", "--out", str(out), *SHORT])
    assert result.exit_code == 0, result.output
    return out, result.stdout


def test_the_whole_job_is_done(demo):
    out, printed = demo
    assert len(list((out / "volumes" / "t1").glob("*.nii.gz"))) == 1
    assert len(list((out / "volumes" / "t2" / "patient-01").glob("*.dcm"))) == 40
    assert (out / "translated" / "head-1_T2w.nii.gz").exists()
    assert "PSNR (dB)" in printed
    assert "T1 taken as T2" in printed
    assert printed.strip().endswith("demo.png")


def test_the_picture_shows_two_planes_of_the_unseen_head(demo):
    out, _ = demo
    files = (
        "unseen/head-1_T1w.nii.gz",
        "translated/head-1_T2w.nii.gz",
        "translated-head-t1-t2/head-1_T2w.nii.gz",
        "unseen/head-1_T2w.nii.gz",
    )
    scaled = []
    for volume in (read_volume(out / file) for file in files):
        head = volume.array[volume.array > volume.array.mean() / 2]
        low, high = np.percentile(head, (0.5, 99.5))
        scaled.append(((volume.array - low) / (high - low)).clip(0, 1).astype(np.float32))
    # Arrays are RAS+; the pictures show anterior above and the patient's right on the left.
    planes = [[np.flip(array[:, :, k]).T for array in scaled] for k in (18, 24)]
    names = ("input", "fake", "shipped model", "truth")
    rows = [dict(zip(names, row, strict=True)) for row in planes]
    expected = comparison_panel(rows, ranges=dict.fromkeys(names, (0.0, 1.0)), error_range=1.0, names=names)
    assert np.array_equal(np.asarray(Image.open(out / "demo.png")), np.asarray(expected))


def test_the_report_of_a_translation_repeats_how_the_model_was_trained(demo, tmp_path):
    out, _ = demo
    translated = out / "translated" / "head-1_T2w.nii.gz"
    page = write_report(translated, ReportOptions(out=tmp_path / "page.html")).read_text()
    assert "the model was trained for 2 steps, fewer than 1000" in page
    assert "does not record how it was trained" not in page


def test_the_table_agrees_with_the_record(demo):
    out, printed = demo
    record = json.loads((out / "demo.json").read_text())
    (score,) = record["scores"]
    (shipped,) = record["shipped"]["scores"]
    assert record["shipped"]["model"] == "head-t1-t2"
    assert f"by the shipped head-t1-t2{shipped['psnr']:>11.2f}" in printed
    assert f"{score['psnr']:.2f}" in printed
    assert f"{score['baselines']['input']['psnr']:.2f}" in printed
    assert score["scored"] == "fake"
    assert score["baselines"].keys() == {"input"}


def test_only_a_demo_is_replaced(demo, tmp_path):
    out, _ = demo
    with pytest.raises(WriteError, match="--overwrite"):
        run_demo(out)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(WriteError, match="not written by a demo"):
        run_demo(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_its_networks_are_small_enough_for_minutes():
    config = load_config("demo")
    assert config.networks.generator.filters <= 16
    assert config.training.max_steps <= 3000
    assert config.training.precision == "fp32", "the same numbers on every CPU"


def test_an_interrupted_demo_continues(demo, tmp_path, monkeypatch):
    """It ends in the scores of the demo that was not interrupted, and generates nothing twice."""
    finished, _ = demo
    config = load_config("demo", ["training.max_steps=2", "networks.generator.filters=4"])

    def cut(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medcyclegan.demo.slice_volumes", cut)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo", config=config, heads=(1, 1))
    with pytest.raises(WriteError, match=r"unfinished demo with other settings: .*--overwrite"):
        run_demo(tmp_path / "demo", config=config, heads=(2, 1))
    with monkeypatch.context() as patch:
        patch.setattr("medcyclegan.demo.make_head", cut)
        patch.setattr("medcyclegan.demo.translate_file", cut)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo", config=config, heads=(1, 1))
    assert (tmp_path / "demo" / "runs" / "latest" / "model").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr("medcyclegan.demo.make_head", cut)
        run_demo(tmp_path / "demo", config=config, heads=(1, 1))
    scores = [json.loads((folder / "demo.json").read_text())["shipped"] for folder in (finished, tmp_path / "demo")]
    assert scores[0] == scores[1]
    assert len(list((tmp_path / "demo" / "runs").glob("2*"))) == 1
    with pytest.raises(WriteError, match=r"exists: .*--overwrite"):
        run_demo(tmp_path / "demo", config=config, heads=(1, 1))


def test_a_stopped_training_names_the_command_that_continues_the_demo(tmp_path, monkeypatch):
    def stop(*_arguments, **_options):
        raise TrainingError("stopped by SIGINT after step 1 of 2")

    monkeypatch.setattr("medcyclegan.demo.train", stop)
    monkeypatch.setattr("medcyclegan.demo.slice_volumes", lambda *_arguments, **_options: None)
    with pytest.raises(TrainingError, match="stopped by SIGINT after step 1 of 2; the same demo command continues it"):
        run_demo(tmp_path / "demo", heads=(1, 1))
