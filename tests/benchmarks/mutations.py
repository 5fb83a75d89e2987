"""Change the package's code at random, one place at a time, and print which changes no test notices.

    python tests/benchmarks/mutations.py OUT [PART ...] [--minutes 60] [--mutants N] [--seed 0]
        [--seconds 60] [--processes 1]
    python tests/benchmarks/mutations.py OUT --repeat OUT/mutants.jsonl

The mutants are those of cosmic-ray: an operator, a number, a condition, a decorator, a loop. They are drawn at random
over the lines of code of the parts. Each is made in a copy of the project in OUT, and the tests that run its line are
run until one fails, in a fork of a process that has imported torch and the other libraries already.
OUT/tests-PART.json says which tests run which line (coverage.py): it is recorded first, with the tests of the part
except the slow ones, and used again if it exists. Delete OUT after a change of the project.

A mutant is killed if a test fails or takes too long. It survives if all of its tests pass; ``--seconds`` limits how
long they may take. A survivor may be equivalent, such as a larger buffer: read it before you write a test.
``--repeat`` tries the survivors of an earlier run again. Needs ``pip install cosmic-ray coverage`` beside the extra
``test``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import psutil
import pytest
from mutations_code import Mutant, draw_mutants, mutated_source
from mutations_tests import MARKERS, TestMap, load_test_maps, run_recording

ROOT = Path(__file__).parents[2]
PARTS = ("slicing", "inference", "training", "data", "evaluation", "metrics", "intensity")
#: What the tests import, the package itself apart: found in a process of its own, imported once in this one.
FIND_IMPORTS = """
import importlib, pkgutil, sys
import hypothesis, highdicom, matplotlib.pyplot, medcyclegan, monai.engines, monai.transforms, onnxruntime, scipy.stats
for module in pkgutil.walk_packages(medcyclegan.__path__, "medcyclegan."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(" ".join(name for name in sys.modules if name.split(".")[0] not in ("medcyclegan", "__main__")))
"""
#: Limits of a mutant; the times are added to a multiple of what its tests take without the change.
LARGEST_MEMORY, LARGEST_FILE, CPU_SECONDS, WAIT_SECONDS = 16 * 2**30, 2**30, 30, 600
#: Number of tests that are run without a change first.
UNCHANGED = 100
KILLED, TIMEOUT, SURVIVED = "killed", "timeout", "survived"
#: A mutant, its tests, and the seconds that they take without a change.
Job = tuple[Mutant, list[str], float]
#: The copy of the project that belongs to this process.
_own_tree: list[Path] = []


def main() -> int:
    arguments = read_arguments()
    out: Path = arguments.out.resolve()
    trees = [out / f"{number}" / "tree" for number in range(arguments.processes)]
    for tree in trees:
        if not tree.exists():
            copy_project(tree)
    os.environ.update(HOME=str(out / "home"), MPLBACKEND="agg")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    (out / "home").mkdir(exist_ok=True)
    tests = record_tests(trees[0], arguments.parts, out)
    print(f"{len(tests.seconds)} tests, {sum(tests.seconds.values()):.0f} s; skipped or failed without a change: "
          f"{len(tests.failed)}", flush=True)  # fmt: skip
    import_libraries(trees[0])
    check_unchanged(trees[0], tests)
    if arguments.repeat:
        rows = [json.loads(line) for line in arguments.repeat.read_text().splitlines()]
        mutants: Iterable[Mutant] = (Mutant(**row["mutant"]) for row in rows if row["result"] == SURVIVED)
        results = out / "repeated.jsonl"
    else:
        mutants = draw_mutants(trees[0], find_modules(trees[0], arguments.parts), arguments.seed)
        results = out / "mutants.jsonl"
    results.write_text("")
    jobs = build_jobs(itertools.islice(mutants, arguments.mutants), tests, trees[0], arguments.seconds)
    for row in try_all(trees, jobs, 60 * arguments.minutes):
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if row["result"] == SURVIVED:
            print_survivor(row)
    print_table([json.loads(line) for line in results.read_text().splitlines()])
    return 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--mutants", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--repeat", type=Path)
    arguments = parser.parse_args()
    unknown = sorted({*arguments.parts} - {*PARTS})
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: name of {', '.join(PARTS)}")
    return arguments


def copy_project(tree: Path) -> None:
    """Copy the files of the project, with links as links, and compile them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree / "medcyclegan")], check=True)


def find_modules(tree: Path, parts: Sequence[str]) -> list[Path]:
    """Return the modules of the parts, relative to the project."""
    package = tree / "medcyclegan"
    of_parts = [sorted((package / part).rglob("*.py")) or [package / f"{part}.py"] for part in parts]
    return [path.relative_to(tree) for path in itertools.chain(*of_parts)]


def test_paths(tree: Path, part: str) -> list[str]:
    """Return the folder and the files of tests of a part."""
    folder = [f"tests/{part}"] if (tree / "tests" / part).is_dir() else []
    return folder + sorted(str(path.relative_to(tree)) for path in (tree / "tests").glob(f"test_{part}*.py"))


def record_tests(tree: Path, parts: Sequence[str], out: Path) -> TestMap:
    """Record the tests of each part, unless an earlier run did, and return one map of all of them."""
    for part in parts:
        if not (out / f"tests-{part}.json").exists():
            run_recording(tree, test_paths(tree, part), out / f"tests-{part}.json")
    return load_test_maps(out / f"tests-{part}.json" for part in parts)


def import_libraries(tree: Path) -> None:
    """Import what the tests import, so that no fork does it again; nothing of the package, which the forks change."""
    command = [sys.executable, "-P", "-c", FIND_IMPORTS]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    for name in found.stdout.splitlines()[-1].split():
        try:
            importlib.import_module(name)
        except ImportError as error:  # modules that exist under a name of their own only, such as six.moves
            logging.debug("%s: %s", name, error)


def check_unchanged(tree: Path, tests: TestMap) -> None:
    """Run the fastest tests without a change: they must pass, or no mutant would say anything."""
    fastest = sorted(tests.seconds, key=lambda test: tests.seconds[test])[:UNCHANGED]
    if run_forked(tree, fastest, sum(tests.seconds[test] for test in fastest)) != SURVIVED:
        raise SystemExit(f"tests of the unchanged copy fail: see {tree.parent / 'last.log'}")


def build_jobs(mutants: Iterable[Mutant], tests: TestMap, tree: Path, seconds: float) -> Iterator[Job]:
    """Yield each mutant with its tests."""
    for mutant in mutants:
        chosen = tests.tests_for(Path(mutant.module), tree, mutant.line, seconds)
        yield mutant, chosen, sum(tests.seconds[test] for test in chosen)


def try_all(trees: list[Path], jobs: Iterable[Job], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the result of each mutant, as many at a time as there are trees, until the time is over."""
    context = multiprocessing.get_context("fork")
    free = context.Queue()
    for tree in trees:
        free.put(tree)
    end = time.monotonic() + seconds
    with futures.ProcessPoolExecutor(len(trees), context, initializer=take_tree, initargs=(free,)) as pool:
        pending: set[futures.Future[dict[str, Any]]] = set()
        for job in jobs:
            pending.add(pool.submit(try_mutant, *job))
            if len(pending) >= len(trees):
                done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
                yield from (future.result() for future in done)
            if time.monotonic() > end:
                break
        yield from (future.result() for future in pending)


def take_tree(free: multiprocessing.Queue[Path]) -> None:
    """Take a tree for this process, and import from it."""
    _own_tree.append(free.get())
    os.environ["PYTHONPATH"] = str(_own_tree[0])


def try_mutant(mutant: Mutant, chosen: list[str], expected: float) -> dict[str, Any]:
    """Write the mutant into the copy, run its tests in a fork, and restore the module."""
    tree = _own_tree[0]
    path = tree / mutant.module
    source, status = path.read_bytes(), path.stat()
    start = time.monotonic()
    try:
        path.write_text(mutated_source(tree, mutant))
        os.utime(path, (status.st_atime, status.st_mtime + 2 + start % 1e6))  # compiled files are known by the time
        result = run_forked(tree, chosen, expected) if chosen else SURVIVED
    finally:
        path.write_bytes(source)
        os.utime(path, (status.st_atime, status.st_mtime))
    seconds = round(time.monotonic() - start, 1)
    return {"mutant": dataclasses.asdict(mutant), "result": result, "tests": len(chosen), "seconds": seconds}


def run_forked(tree: Path, chosen: list[str], expected: float) -> str:
    """Run tests in a fork until one fails; end the fork and what it started when its time is over."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            set_limits(int(CPU_SECONDS + 5 * expected))
            code = run_tests(tree, chosen)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    end = time.monotonic() + WAIT_SECONDS + 30 * expected
    while time.monotonic() < end:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            timeout = os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGXCPU
            return TIMEOUT if timeout else SURVIVED if code == 0 else KILLED
        time.sleep(0.02)
    for process in [*psutil.Process(child).children(recursive=True), psutil.Process(child)]:
        process.send_signal(signal.SIGKILL)
    os.waitpid(child, 0)
    return TIMEOUT


def set_limits(cpu_seconds: int) -> None:
    """Limit what a mutant may use: it may count to infinity or fill the disk."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))


def run_tests(tree: Path, chosen: list[str]) -> int:
    """Run the tests in their order, in this process; return the exit code of pytest."""
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with open(tree.parent / "last.log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
    # Plain assertions: pytest warns if it cannot rewrite those of a plugin that is imported already.
    options = ["-x", "-q", "--assert=plain", "-m", MARKERS, "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += [f"--basetemp={tree.parent / 'tmp'}"]
    code = pytest.main([*options, *files], plugins=[Chosen(chosen)])
    package = sys.modules.get("medcyclegan")
    if package is not None and not str(package.__file__).startswith(str(tree)):
        raise SystemExit(f"the tests import {package.__file__}, not the copy")
    return int(code)


class Chosen:
    """A plugin of pytest: keeps the chosen tests, in their order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


def print_survivor(row: dict[str, Any]) -> None:
    mutant = Mutant(**row["mutant"])
    reached = f"{row['tests']} tests pass" if row["tests"] else "no test runs it"
    print(f"{mutant.module}:{mutant.line}: {reached}\n  - {mutant.before}\n  + {mutant.after}", flush=True)


def print_table(rows: list[dict[str, Any]]) -> None:
    print("\n| part | mutants | killed | of these by time | survived |\n| --- | ---: | ---: | ---: | ---: |")
    parts = sorted({Mutant(**row["mutant"]).part for row in rows})
    for part in [*parts, "all"]:
        results = [row["result"] for row in rows if part in ("all", Mutant(**row["mutant"]).part)]
        killed = len(results) - results.count(SURVIVED)
        print(f"| {part} | {len(results)} | {killed} | {results.count(TIMEOUT)} | {results.count(SURVIVED)} |")


if __name__ == "__main__":
    sys.exit(main())
