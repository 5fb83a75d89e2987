"""The recipe for a container of the DICOM node: its parts, without building it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from medcyclegan.cli.serve import command
from medcyclegan.service.health import HealthPage

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "examples" / "medcyclegan.containerfile").read_text()


def exec_form(instruction):
    """Return the words of an instruction that is written as a JSON list."""
    (words,) = re.findall(rf"^{instruction} .*?(\[.*\])$", RECIPE, flags=re.M)
    return json.loads(words)


def test_only_what_the_installation_needs_is_copied():
    """A clone may contain an environment, slices of patients, or a queue."""
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", RECIPE, flags=re.M) for word in line.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"pyproject.toml", "constraints.txt", "medcyclegan", "configs"}
    assert copied == {*parts, project["readme"], *project["license-files"]}
    assert all((ROOT / name).exists() for name in copied)


def test_what_links_in_the_package_lead_to_is_copied_to_its_place():
    """Otherwise the wheel is built without it, and without an error."""
    places = {ROOT / source: target for source, target in re.findall(r"^COPY (\w+) (\S+)$", RECIPE, flags=re.M)}
    links = [path for path in (ROOT / "medcyclegan").rglob("*") if path.is_symlink()]
    assert links
    for link in links:
        target = link.resolve()
        assert places.get(target) == f"/src/{target.relative_to(ROOT)}", link


def test_the_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.search(r'"/src\[([\w,]+)\]"', RECIPE)[1].split(",")) == {"pacs", "jpeg"} <= extras.keys()


def test_it_runs_as_an_ordinary_user():
    assert RECIPE.index("--uid 10001") < RECIPE.index("USER 10001") < RECIPE.index("ENTRYPOINT")


def test_the_command_and_its_example_have_options_that_exist():
    program, name, *words = exec_form("ENTRYPOINT")
    example = re.search(r"podman run .* medcyclegan \\\n#\s+(.*)$", RECIPE, flags=re.M)[1]
    context = command.make_context(name, [*words, *shlex.split(example)])
    assert (program, name) == ("medcyclegan", "serve")
    assert context.params["queue"].startswith(re.search(r"^VOLUME (\S+)$", RECIPE, flags=re.M)[1])
    assert context.params["port"] == int(re.search(r"^EXPOSE (\d+)$", RECIPE, flags=re.M)[1])
    assert context.params["accept_from"], "another machine can connect"


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["no answer"], 1)])
def test_the_health_check_reports_problems(problems, code):
    (default,) = [option.default for option in command.params if option.name == "health_port"]
    page = HealthPage(0, lambda: {"problems": problems})
    try:
        words = [word.replace(f":{default}/", f":{page.port}/") for word in exec_form("HEALTHCHECK")]
        assert f":{page.port}/health" in words[-1]
        assert subprocess.run([sys.executable, *words[1:]], capture_output=True).returncode == code
    finally:
        page.close()


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_the_linter_finds_nothing():
    read = subprocess.run(["hadolint", ROOT / "examples" / "medcyclegan.containerfile"], capture_output=True, text=True)
    assert read.returncode == 0, read.stdout
