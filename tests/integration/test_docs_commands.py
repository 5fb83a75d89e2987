"""Every command of the documentation runs, page by page, as a new user would type it, on synthetic phantoms.

Only trainings are shortened (few filters, two steps), and fewer phantoms and folds are used: see SHORTER. Blocks whose
title says that they need a cluster or a browser, and commands that install or build, are only parsed, by test_docs.py.
"""

import glob
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.dicom_node_server import running_node
from support.dicomweb_server import archive_of, running_service
from support.documented_folders import PREPARED
from support.orthanc_server import free_port

import medcyclegan.config
from medcyclegan.cli.main import main
from medcyclegan.cli.slicer import command as slicer
from medcyclegan.service.node import Service

ROOT = Path(__file__).parents[2]
SHORTER = {
    "--patients 20": "--patients 2 --spacing-mm 6",
    "demo --out demo": "demo --out demo --heads 2 1",
    " --max-steps 20000": "",
    "--folds 5": "--folds 2",
    "--cases patients": "--cases patients --steps 20",
    "scaling.py 10 100 1000": "scaling.py 2",
}
TRAINING = [
    "networks.generator.filters=2",
    "networks.discriminator.filters=2",
    "training.max_steps=2",
    "training.panel_every=2",
    "validation.slices=2",
    "pretraining.patients_at_once=1",
    "pretraining.slices_per_patient=2",
    "pretraining.reference_patients=1",
    "pretraining.validation_patients=1",
    "pretraining.workers=0",
]
#: The README's commands are in indented lines.
README_LINE = re.compile(r"^    ((?:medcyclegan|python) .*)$", re.M)
INSTALLS = ("make", "pip")
BLOCK = re.compile(r"^```(?P<language>sh|python)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^```", re.M | re.S)


def blocks(page):
    """The language, the title and the text of each block of commands or of Python; a command is a line."""
    if page == "README":
        lines = README_LINE.findall((ROOT / "README.md").read_text())
        return [("sh", None, "\n".join(lines))]
    found = BLOCK.finditer((ROOT / "docs" / f"{page}.md").read_text())
    return [(b["language"], b["title"], b["text"].replace("\\\n", " ")) for b in found]


def test_no_page_with_commands_is_left_out():
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for language, title, text in blocks(page):
            if title or page in PREPARED:
                continue
            for line in text.splitlines():
                assert (language, line.split()[0] in INSTALLS) == ("sh", True), f"{page}: {line}"


@pytest.mark.parametrize("page", PREPARED)
@pytest.mark.filterwarnings("ignore::UserWarning:monai", "ignore::DeprecationWarning:pynetdicom")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_commands_run_as_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PREPARED[page]()
    shorten_trainings(monkeypatch)
    names = {}
    for language, title, text in blocks(page):
        if title:
            continue
        if language == "python":
            exec(text, names)  # noqa: S102
            continue
        for line in text.splitlines():
            run(line.split("  #")[0].strip(), monkeypatch)


def shorten_trainings(monkeypatch):
    """Make every configuration that a command asks for small; scripts that are started run in this process."""
    load = medcyclegan.config.load_config
    monkeypatch.setattr(
        medcyclegan.config, "load_config", lambda name="default", sets=(): load(name, [*sets, *TRAINING])
    )
    monkeypatch.setattr(
        "medcyclegan.training.run.shipped_start.load_config",
        lambda name="default", sets=(): load(name, [*sets, *TRAINING]),
    )
    start = subprocess.run

    def run_script(words, **options):
        if words[0] != sys.executable or not words[1].endswith(".py"):
            return start(words, **options)
        return subprocess.CompletedProcess(words, script(words[1:], monkeypatch))

    monkeypatch.setattr(subprocess, "run", run_script)


def run(line, monkeypatch):
    for long, short in SHORTER.items():
        line = line.replace(long, short)
    program, *words = shlex.split(line)
    if words[0] == "serve":
        # it starts, and stops at once instead of waiting; the addresses of other machines become this one's
        words = [word.replace("0.0.0.0", "127.0.0.1") for word in words]  # noqa: S104
        with monkeypatch.context() as patch:
            patch.setattr(Service, "wait", lambda _service, _stop: None)
            command([*words, "--port", str(free_port()), "--health-port", str(free_port())], line)
    elif "4242" in line:
        with running_node(called="ORTHANC") as node:
            words = [word.replace("4242", str(node.port)) for word in words]
            command(words, line) if program == "medcyclegan" else module(words, line)
            assert node.images
    elif found := re.search(r"https://pacs.example/dicom-web|http://127.0.0.1:8042/dicom-web", line):
        kept = sorted(Path("archive").iterdir()) if Path("archive").is_dir() else sorted(Path().rglob("*.dcm"))
        with running_service(archive_of(kept)) as (service, received):
            command([word.replace(found[0], service) for word in words], line)
            assert received
    elif program == "python" and words[0] == "-m":
        module(words, line)
    elif program == "medcyclegan":
        command(words, line)
    elif program == "medcyclegan-slicer":
        assert CliRunner().invoke(slicer, words).exit_code == 0, line
    else:
        assert program == "python"
        assert script([str(ROOT / words[0]), *words[1:]], monkeypatch) == 0, line


def command(words, line):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, f"{line}: {result.output}"
    if words[0] == "train" and "--config" in words:
        assert "the slices were made with" not in result.output, "slice-volumes needs the configuration too"


def module(words, line):
    """Run ``python -m`` in a process of its own; patterns of files are expanded, as by a shell."""
    expanded = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
    done = subprocess.run([sys.executable, *expanded], capture_output=True, text=True)
    assert done.returncode == 0, f"{line}: {done.stderr}"


def script(words, monkeypatch):
    """Run a script as a program in this process, where the imports are paid for; return its exit code."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
    return ended.value.code or 0


def test_from_an_export_to_an_archive_there_are_at_most_ten_commands():
    """The benchmark runs the commands of the page, not a list of its own."""
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "afternoon.py"))
    commands = script["page_commands"]()
    assert commands[0] == "medcyclegan inspect export"
    assert len(commands) <= 10
    assert script["final_text"]("a\r\nbar 1\r\x1b[2Kbar 2\r\x1b[2K\x1b[1A\x1b[2Kb\r\n") == "b\n"
