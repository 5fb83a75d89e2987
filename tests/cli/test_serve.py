"""``medcyclegan serve`` as a user starts and stops it."""

import importlib
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner
from support.dicom_node_server import running_node
from support.dicom_studies import make_study, send, wait_until, write_rules
from support.models import tiny_model
from support.orthanc_server import free_port

from medcyclegan.cli.main import main

pytest.importorskip("pynetdicom", reason="pynetdicom is not installed: pip install 'medcyclegan[pacs]'")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pynetdicom"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_stopped(tmp_path, number):
    tiny_model().save(tmp_path / "model")
    rules = write_rules(tmp_path / "rules.yaml")
    port, health = free_port(), free_port()
    with running_node() as node:
        command = [sys.executable, "-m", "medcyclegan", "serve", "--model", "model", "--port", str(port)]
        command += ["--health-port", str(health), "--send-to", f"NODE@127.0.0.1:{node.port}", "--rules", str(rules)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            images = make_study("one")
            wait_until(lambda: send(port, images) == [0] * 4)
            wait_until(lambda: len(node.images) == 4)
            with urllib.request.urlopen(f"http://127.0.0.1:{health}/health", timeout=10) as answer:
                assert answer.status == 200
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert f"MEDCYCLEGAN listens on 127.0.0.1:{port}, accepts any caller" in err
    assert "Secret" not in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "Missing option '--send-to'"),
        (["--send-to", "PACS"], 2, "PACS: not the address of a DICOM node: write dicom://AET@host:port"),
        (["--send-to", "PACS@127.0.0.1:104", "--host", "0.0.0.0"], 2, "--accept-from AET"),  # noqa: S104
        (["--send-to", "PACS@127.0.0.1:104", "--rules", "none.yaml"], 1, "none.yaml: no such rules file"),
        (["--send-to", "MEDCYCLEGAN@127.0.0.1:11112"], 2, "is this node"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "model")
    result = CliRunner().invoke(main, ["serve", "--model", "model", *options])
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_without_pynetdicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save(tmp_path / "model")
    imported = importlib.import_module

    def missing(name, *arguments):
        if name == "pynetdicom":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", missing)
    result = CliRunner().invoke(
        main, ["serve", "--model", "model", "--send-to", "PACS@127.0.0.1:104", "--health-port", "0"]
    )
    assert result.exit_code == 1
    assert "pip install 'medcyclegan[pacs]'" in result.stderr
