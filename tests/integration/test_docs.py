"""The documentation: it builds without a warning, its commands parse, and the files that it names exist."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from medcyclegan.cli.main import main
from medcyclegan.cli.slicer import command as slicer
from medcyclegan.config import Config

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
#: Commands are in shell blocks. The title of a block says if they need more than this machine.
BLOCK = re.compile(r"^```sh(?: title=\"(?P<title>[^\"]*)\")?\n(?P<lines>.*?)^```", re.M | re.S)


def blocks():
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            for line in block["lines"].replace("\\\n", " ").splitlines():
                yield pytest.param(line.split("  #")[0].strip(), block["title"], id=f"{page.stem}: {line[:60]}")


def test_blocks_are_of_kinds_that_are_tested():
    """A block of ``bash`` or of no kind would be passed over by the tests here and in test_docs_commands.py."""
    for page in PAGES:
        kinds = set(re.findall(r"^```([^\n]*)\n.*?^```", page.read_text(), flags=re.M | re.S))
        titles = {f'sh title="needs a {what}"' for what in ("cluster", "browser")}
        assert kinds <= {"sh", "python"} | titles, page


@pytest.mark.parametrize(("line", "title"), list(blocks()))
def test_every_command_parses(line, title):
    program, *words = shlex.split(line)
    if program == "medcyclegan":
        command = main.get_command(click.Context(main), words[0])
        assert command is not None, words[0]
        with command.make_context(words[0], words[1:]):
            return
    if program == "medcyclegan-slicer":
        assert {word for word in words if word.startswith("-")} <= {o for p in slicer.params for o in p.opts}
    elif program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
    elif program == "python":
        _check_script(ROOT / words[0], words[1:])
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), flags=re.M)
    elif program == "sbatch":
        assert title == "needs a cluster"
        assert any((ROOT / word).is_file() for word in words)
    else:
        assert program == "pip", line


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.stem)
def test_commands_in_sentences_parse(page):
    for line in re.findall(r"`medcyclegan ([a-z][^`]*)`", page.read_text().replace("\n", " ")):
        name, *words = shlex.split(line)
        command = main.get_command(click.Context(main), name)
        assert command is not None, line
        if words and not {"COMMAND", "NAME", "RUN", "FILE"} & set(words):
            with command.make_context(name, words):
                pass


def _check_script(script, words):
    """Every option that a line gives to a script is one that the script names."""
    text = script.read_text() + (ROOT / "medcyclegan" / "cohort" / "cluster.py").read_text()
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in text, f"{script.name} has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_files_that_are_named_exist(page):
    text = page.read_text()
    for name in re.findall(r"(?:`|python )((?:medcyclegan|configs|examples|pipelines|tests|docs)/[\w./-]*)", text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([\w./-]+)\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_in_the_pages_compiles_and_its_imports_are_there(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S):
        compile(block, str(page), "exec")
        lines = [line for line in block.splitlines() if line.startswith(("from ", "import "))]
        exec("\n".join(lines), {})  # noqa: S102


def _hook():
    spec = importlib.util.spec_from_file_location("reference_hook", ROOT / "docs" / "reference_hook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_names_every_option_and_every_key():
    hook = _hook()
    commands, configuration = hook.commands(), hook.configuration()
    for name in main.list_commands(click.Context(main)):
        assert f"## {name}\n" in commands
        for parameter in main.get_command(click.Context(main), name).params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in commands
    for section in (field.annotation for field in Config.model_fields.values()):
        for name in getattr(section, "model_fields", {}):
            assert f"`{name}`" in configuration or f".{name}`" in configuration, name


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs-material is not installed (extra docs)")
def test_the_pages_build_without_a_warning_and_load_nothing_from_the_network(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    reference = (tmp_path / "site" / "commands" / "index.html").read_text()
    assert "--dicom-template" in reference
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"?https?://(?!example)", page.read_text()), page
