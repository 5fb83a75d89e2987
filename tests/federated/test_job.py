"""The job folder: what is in it, and what is refused."""

import json

import pytest
from click.testing import CliRunner
from support.models import tiny_model

from medcyclegan.cli.main import main
from medcyclegan.config import load_config
from medcyclegan.errors import ConfigError, UsageError
from medcyclegan.federated.job import INITIAL, JOB_FILE, load_job, write_job
from medcyclegan.model import ModelBundle

COMMAND = ["federate", "--domains", "ct", "mr", "--rounds", "4", "--steps", "25", "--min-sites", "2"]


def test_the_command_writes_a_job_without_code(tmp_path) -> None:
    out = tmp_path / "job"
    result = CliRunner().invoke(main, [*COMMAND, "--out", str(out), "--set", "seed=7"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [
        *("app/config/config_fed_client.json", "app/config/config_fed_server.json", f"app/config/{JOB_FILE}"),
        "meta.json",
    ]
    job = load_job((out / "app" / "config" / JOB_FILE).read_text())
    assert (job.domains, job.rounds, job.steps, job.min_sites) == (("ct", "mr"), 4, 25, 2)
    assert (job.config.training.max_steps, job.config.seed) == (100, 7)
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["name"], meta["min_clients"], meta["deploy_map"]) == ("job", 2, {"app": ["@ALL"]})


def test_an_existing_folder_is_kept(tmp_path) -> None:
    (tmp_path / "job").mkdir()
    result = CliRunner().invoke(main, [*COMMAND, "--out", str(tmp_path / "job")])
    assert result.exit_code == 1
    assert "--overwrite" in result.output


def test_the_initial_model_is_part_of_the_job(tmp_path) -> None:
    model, config = tiny_model(), load_config("default")
    networks = config.networks.model_copy(update={"generator": model.generator})
    config = config.model_copy(update={"networks": networks})
    write_job(tmp_path / "job", config, ("ct", "mr"), rounds=(1, 1), answers=(2, 60), initial=model)
    assert ModelBundle.load(tmp_path / "job" / "app" / "config" / INITIAL).fingerprint == model.fingerprint


def test_an_initial_model_of_other_generators_is_refused_when_the_job_is_written(tmp_path) -> None:
    out = tmp_path / "job"
    result = CliRunner().invoke(main, [*COMMAND, "--out", str(out), "--init-from", "head-t1-t2"])
    assert result.exit_code == 1
    assert "--init-from: it has networks.generator.kind=subpixel_unet" in result.output
    assert not out.exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.ema_decay=0.99", r"training.ema_decay = 0.99: .* add --set training.ema_decay=null"),
        ("losses.paired_weight=1", r"losses.paired_weight = 1: a site with one domain has no pairs: add --set"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, override, message) -> None:
    with pytest.raises(ConfigError, match=message):
        write_job(tmp_path / "job", load_config("default", [override]), ("ct", "mr"), rounds=(1, 1), answers=(2, 60))
    assert not (tmp_path / "job").exists()


def test_one_domain_twice_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="--domains mr mr: name two different domains"):
        write_job(tmp_path / "job", load_config("default"), ("mr", "mr"), rounds=(1, 1), answers=(2, 60))


def test_a_job_that_was_changed_by_hand_is_checked(job, tmp_path) -> None:
    values = json.loads((tmp_path / "job" / "app" / "config" / JOB_FILE).read_text())
    with pytest.raises(ConfigError, match=r"medcyclegan\.json: run: .* write the job again"):
        load_job(json.dumps({**values, "run": "../../elsewhere"}))
    with pytest.raises(ConfigError, match=r"medcyclegan\.json: script: "):
        load_job(json.dumps({**values, "script": "x"}))
    with pytest.raises(ConfigError, match=r"training\.max_steps = 6, not 4 rounds of 2 steps: write the job again"):
        load_job(json.dumps({**values, "rounds": 4}))
    assert load_job(json.dumps(values)) == job
