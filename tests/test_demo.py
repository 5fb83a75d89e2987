"""The demo, shortened to two steps: the files it writes, its output, and folders that it does not remove."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from medcyclegan.cli.main import main
from medcyclegan.config import load_config
from medcyclegan.demo import run_demo
from medcyclegan.errors import WriteError

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
    assert np.asarray(Image.open(out / "demo.png").convert("L")).std() > 5
    assert "PSNR (dB)" in printed
    assert "T1 taken as T2" in printed
    assert printed.strip().endswith("demo.png")


def test_the_table_says_what_the_record_says(demo):
    out, printed = demo
    (score,) = json.loads((out / "demo.json").read_text())["scores"]
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
