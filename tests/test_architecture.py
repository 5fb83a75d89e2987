"""Tests of the architecture: imports point down, no part has a cycle, modules and functions stay small."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medcyclegan

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medcyclegan"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Top to bottom; parts on one line never import each other.
LAYERS = [
    "__main__",
    "cli",
    "demo app",
    "cohort",
    "report federated",
    "export evaluation training slicer service",
    "inference",
    "model",
    "slicing data phantom synthesis dose",
    "networks io metrics pictures registration",
    "config cpus device intensity logs manifest memory plane provenance records run_record progress shards terminal "
    "volume workers",
    "lazy storage",
    "errors",
]
LEVEL = {name: len(LAYERS) - i for i, line in enumerate(LAYERS) for name in line.split()}

#: Third-party packages and the only parts of the package that may import them.
HOMES = {
    "pydicom": {"io"},
    "highdicom": {"io"},
    "pynetdicom": {"io"},
    "nibabel": {"io"},
    "SimpleITK": {"io", "metrics", "registration", "dose"},
    "click": {"cli"},
    "nvflare": {"federated"},
    "pyRadPlan": {"dose"},
    "pymedphys": {"dose"},
    "ignite": {"training"},
    "monai.engines": {"training"},
    "monai.handlers": {"training"},
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = part_of(path)
    for name in imports_of(path):
        if name.startswith("medcyclegan.") and here != "__init__":
            there = name.split(".")[1]
            if there != here and there in LEVEL:
                assert LEVEL[there] < LEVEL[here], f"{here} imports {there}"
        for package, homes in HOMES.items():
            if name == package or name.startswith(package + "."):
                assert here in homes, f"{here} imports {package}"


def test_no_part_has_a_cycle_inside():
    """Follow the imports between modules; a package's ``__init__`` re-exports and does not count."""
    modules = {name_of(path): path for path in MODULES if path.name != "__init__.py"}
    left = {name: imports_of(path) & modules.keys() - {name} for name, path in modules.items()}
    while free := {name for name, imported in left.items() if not imported & left.keys()}:
        left = {name: imported for name, imported in left.items() if name not in free}
    assert not left, f"modules on a cycle, or above one: {', '.join(sorted(left))}"


@pytest.mark.parametrize(
    "path", [*MODULES, *(ROOT / "pipelines").rglob("*.py")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert path.name not in ("utils.py", "helpers.py", "misc.py")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} is too long"
            count = sum(1 for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls"))
            # Their options are the contract's.
            assert count <= 7 or part_of(path) == "cli" or node.name in ("read_volume", "slice_volumes", "train"), (
                f"{node.name}: {count} parameters"
            )


def test_every_part_has_its_layer():
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts <= set(LEVEL)


def test_nothing_broad_is_caught_and_nothing_unsafe_is_loaded():
    for path in MODULES:
        text = path.read_text()
        assert not re.search(r"except( Exception| BaseException)?:(?!.*\n\s+(.*\n\s+){0,3}raise)", text), path
        assert "yaml.load(" not in text or "_PlainLoader" in text
        assert "weights_only=False" not in text
        assert "pickle.load" not in text


def test_nothing_is_overwritten_or_forced_by_default():
    """Of each parameter and each field with one of these names that has a default, the default is False."""
    names, defaults = {"overwrite", "force", "allow_gap", "keep_missing"}, []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arguments):
                given = [*node.posonlyargs, *node.args]
                pairs = [*zip(given[len(given) - len(node.defaults) :], node.defaults, strict=True)]
                pairs += zip(node.kwonlyargs, node.kw_defaults, strict=True)
                defaults += [(path, value) for name, value in pairs if name.arg in names and value is not None]
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in names and node.value is not None:
                defaults.append((path, node.value))
    assert len(defaults) > 20
    assert [(path, ast.unparse(value)) for path, value in defaults if ast.unparse(value) != "False"] == []


def test_public_names_are_sorted_and_there():
    assert medcyclegan.__all__ == sorted(medcyclegan.__all__)
    for name in medcyclegan.__all__:
        assert getattr(medcyclegan, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medcyclegan.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code", ["import medcyclegan", "import medcyclegan.cli.main", "import medcyclegan.io", "import medcyclegan.config"]
)
def test_importing_is_light(code):
    check = f"{code}; import sys; print([m for m in ('torch', 'monai', 'matplotlib', 'SimpleITK') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("code", "unused"),
    [
        ("from medcyclegan.evaluation import evaluate_files, evaluate_volumes", "torch monai matplotlib scipy.stats"),
        ("from medcyclegan.report import write_report", "torch monai matplotlib scipy.stats"),
        ("from medcyclegan.inference import translate_file", "monai matplotlib SimpleITK nibabel scipy yaml sympy"),
        ("from medcyclegan import ModelBundle; ModelBundle.load('head-t1-ct')", "monai matplotlib SimpleITK sympy"),
    ],
)
def test_commands_start_without_what_they_do_not_use(code, unused):
    check = f"{code}; import sys; print([m for m in {unused.split()} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_training_and_translating_do_not_import_simpleitk():
    code = "from medcyclegan import train, translate_volume; import sys; print('SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_pipelines_hold_no_class_and_the_package_never_imports_them():
    for path in (ROOT / "pipelines").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)], path
        assert not {n.split(".")[0] for n in imports_of(path)} & {"torch", "numpy", "monai"}, path
    assert not [p for p in MODULES if any(n.split(".")[0] == "pipelines" for n in imports_of(p))]
