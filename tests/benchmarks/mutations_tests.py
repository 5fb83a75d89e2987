"""Which tests run which line of the package, and the tests to run for a changed line, for ``mutations.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

#: These need a GPU or real scans, or take too long to be run for each mutant.
MARKERS = "not slow and not gpu and not real"


@dataclass(frozen=True)
class TestMap:
    """The CPU seconds of each test that passes, and the tests that run each line: ``lines[module][line]``."""

    __test__ = False  # the name is not that of a test

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    failed: list[str]

    def tests_for(self, module: Path, tree: Path, line: int, budget: float) -> list[str]:
        """Return tests that may notice a change of a line, at most ``budget`` seconds of them.

        First the tests that run the line, the module's own and the fastest first, then the other tests of the same
        files: a fixture of several tests is recorded for the first of them only. What runs on import is recorded for
        one test only: such a line has the tests that run any function of its module.
        """
        lines = self.lines.get(str(module), {})
        inside = set(_lines_of_functions(ast.parse((tree / module).read_text())))
        numbers = [line] if line in inside else sorted(inside)
        running = {test for number in numbers for test in lines.get(number, [])}
        files = {test.split("::")[0] for test in running} | {_mirrored(module)}
        others = {test for test in self.seconds if test.split("::")[0] in files} - running
        chosen: list[str] = []
        for test in [*self._sorted(running, module), *self._sorted(others, module)]:
            budget -= self.seconds[test]
            if budget < 0:
                break
            chosen.append(test)
        return chosen

    def _sorted(self, tests: set[str], module: Path) -> list[str]:
        mirrored = _mirrored(module) + "::"
        known = tests & self.seconds.keys()
        return sorted(known, key=lambda test: (not test.startswith(mirrored), self.seconds[test], test))


def load_test_maps(paths: Iterable[Path]) -> TestMap:
    """Read what ``record`` wrote, one file or several, as one map."""
    seconds: dict[str, float] = {}
    lines: dict[str, dict[int, list[str]]] = {}
    failed: list[str] = []
    for path in paths:
        values = json.loads(path.read_text())
        seconds |= values["seconds"]
        failed += values["failed"]
        for module, tests_of in values["lines"].items():
            for line, tests in tests_of.items():
                lines.setdefault(module, {}).setdefault(int(line), []).extend(tests)
    return TestMap(seconds, lines, failed)


def run_recording(tree: Path, folders: Sequence[str], out: Path) -> None:
    """Run the tests of ``folders`` in ``tree`` once, in a process of its own, and write the map to ``out``."""
    command = [sys.executable, "-P", __file__, str(out), *folders]  # -P: the neighbour coverage.py is not the library
    subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)


def record(out: Path, folders: Sequence[str]) -> None:
    """Run the tests of ``folders`` in the current folder with coverage.py and write the map to ``out``."""
    import coverage

    tree = Path.cwd()
    measured = coverage.Coverage(data_file=None, source=[str(tree / "medcyclegan")], config_file=False)
    recorder = _Recorder(measured)
    measured.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", MARKERS, *folders], plugins=[recorder])
    measured.stop()
    data = measured.get_data()
    of_files = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
    lines = {
        str(Path(file).relative_to(tree)): {line: sorted(filter(None, tests)) for line, tests in of_file.items()}
        for file, of_file in of_files.items()
    }
    passed = {test: round(spent, 3) for test, spent in recorder.seconds.items() if test not in recorder.failed}
    out.write_text(json.dumps({"seconds": passed, "lines": lines, "failed": sorted(recorder.failed)}))


class _Recorder:
    """A plugin of pytest: names each test to coverage.py, and records its time and result."""

    def __init__(self, measured: Any) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.measured.switch_context(item.nodeid)
        start = _cpu_seconds()
        result = yield
        self.seconds[item.nodeid] = _cpu_seconds() - start
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:  # a skipped test notices nothing
            self.failed.add(report.nodeid)


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that have ended: it does not depend on other programs."""
    return sum(os.times()[:4])


def _lines_of_functions(tree: ast.Module) -> Iterator[int]:
    """Yield the lines in the bodies of functions: what is not run on import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            if body[0].lineno > node.lineno:
                yield from range(body[0].lineno, (body[-1].end_lineno or 0) + 1)


def _mirrored(module: Path) -> str:
    """Return the test file of a module: ``medcyclegan/slicing/split.py`` has ``tests/slicing/test_split.py``."""
    return str(Path("tests", *module.parts[1:-1], f"test_{module.name}"))


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2:])
