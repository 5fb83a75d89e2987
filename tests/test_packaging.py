"""What a user gets: the wheel holds the configurations, pins cover the tree, the command is there."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy is built, for setuptools leaves its build/ in the tree, where it would go stale.
    for name in ("medcyclegan", "configs"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    tree = folder / "tree"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, tree]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_its_configurations(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in [*(ROOT / "medcyclegan").rglob("*.py"), ROOT / "medcyclegan" / "py.typed"]:
        assert path.relative_to(ROOT).as_posix() in names, f"{path} is not in pyproject's packages"
    for path in (ROOT / "configs").glob("*.yaml"):
        assert f"medcyclegan/configs/{path.name}" in names
    assert not [name for name in names if name.startswith(("tests/", "pipelines/", "examples/"))]


def test_the_wheel_holds_every_shipped_model_whole(wheel):
    shipped = ROOT / "medcyclegan" / "model" / "shipped"
    files = {f"medcyclegan/model/shipped/{path.relative_to(shipped).as_posix()}" for path in shipped.glob("*/*")}
    assert {name.split("/")[3] for name in files} == {"brain-t1-t2", "head-t1-ct", "head-t1-t2", "head-t2-ct"}
    assert files <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_alone_loads_its_configurations(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import medcyclegan, medcyclegan.config as c; "
        f"assert medcyclegan.__file__.startswith({str(tmp_path)!r}), medcyclegan.__file__; "
        "print([c.load_config(n).seed for n in c.shipped_configs()])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str([0] * len(list((ROOT / "configs").glob("*.yaml"))))


def test_every_requirement_is_pinned_and_the_pin_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    installed_by_make = [*project["optional-dependencies"]["test"], *project["optional-dependencies"]["jpeg"]]
    for requirement in [*project["dependencies"], *installed_by_make]:
        name, floor = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[.*\])?(?:>=([\d.]+))?", requirement).groups()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key == "medcyclegan":
            continue
        assert key in pins, f"{name} is not pinned"
        numbers = [[int(n) for n in re.findall(r"\d+", v)[:3]] for v in (pins[key], floor or "0")]
        assert numbers[0] >= numbers[1], f"{name}: the pin {pins[key]} is below the floor {floor}"


def test_what_is_installed_is_what_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        if not line.startswith("#") and line:
            name, version = line.split("==")
            try:
                installed = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            assert installed.split("+")[0] == version, f"{name} {installed} is installed, {version} is pinned"


def test_nothing_of_a_machine_is_in_the_project():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".sh", "") and path.is_file():
            text = path.read_text("utf-8", errors="replace")
            assert not re.search(r"(?<![\w.])/(?:root|work)/\w", text), name
