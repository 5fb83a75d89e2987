"""Short versions of what ``make torture`` runs at length (docs/reliability.md)."""

from __future__ import annotations

import dataclasses
import io
import logging
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from reliability import concurrency, disk_full, hostile, kills, odd_volumes, planted, privacy, wholeness
from reliability.attacks import Payload, saved
from reliability.damage import TARGETS, build
from reliability.garbage import judge
from reliability.sandbox import run


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a store (``made``) and a finished run, to be copied."""
    return hostile.prepare(tmp_path_factory.mktemp("reliability"))


@pytest.fixture
def work(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "work", symlinks=True)
    return tmp_path / "work"


@pytest.mark.parametrize(
    "part",
    ["weights a torch pickle", "checkpoint a torch pickle", "stack with objects", "row of the domain /", "a link out",
     "YAML tag apply", "DICOM ../../x, DICOM out", "preamble", "30000^3", "names of files", "ONNX: data", "ONNX: no",
     "script in a table", "script in a sidecar", "script in a run", "file = ../../x"],
)  # fmt: skip
def test_hostile_inputs_do_no_harm_and_reach_their_target(part: str, base: Path, tmp_path: Path) -> None:
    chosen = [case for case in hostile.cases() if part in case.name][:2]
    assert chosen
    for case in chosen:
        outcome, wrong = hostile.attack(case, base, tmp_path)
        assert not wrong
        assert outcome.kind == case.kind


def test_an_attack_that_misses_its_target_is_found(base: Path, tmp_path: Path) -> None:
    (case,) = [case for case in hostile.cases() if case.name == "script in a table, CSV"]
    blunt = dataclasses.replace(case, prepare=lambda folder: ["report", "table.csv"])
    assert hostile.MISSED in hostile.attack(blunt, base, tmp_path)[1][0]
    proof = dataclasses.replace(case, seen=lambda *_: True)
    assert "its proof holds without the attack too" in hostile.attack(proof, base, tmp_path)[1][0]


def test_every_hostile_case_has_a_proof_and_a_unique_name() -> None:
    cases = hostile.cases()
    assert all(case.said or case.seen for case in cases)
    assert len({case.name for case in cases}) == len(cases) > 110


def test_the_payloads_run_where_they_are_let(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loader that this package does not use would execute what the hostile suite plants."""
    tag = "seed: !!python/object/apply:os.system ['touch EXECUTED']"
    np.save(tmp_path / "x.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    for number, load in enumerate(
        (
            lambda: pickle.loads(pickle.dumps(Payload())),  # noqa: S301 (what is tested)
            lambda: torch.load(io.BytesIO(saved(Payload())), weights_only=False),
            lambda: np.load(tmp_path / "x.npy", allow_pickle=True),
            lambda: yaml.unsafe_load(tag),
        )
    ):
        place = tmp_path / str(number)
        place.mkdir()
        monkeypatch.chdir(place)
        load()
        assert (place / "EXECUTED").exists(), number


def test_garbage_is_right_refused_or_beyond_noticing(tmp_path: Path) -> None:
    logging.disable(logging.CRITICAL)
    try:
        targets = build(tmp_path / "truth")
        counts: Counter[str] = Counter()
        for seed in range(150):
            outcome, detail = judge(targets[TARGETS[seed % len(TARGETS)]], tmp_path / "work", seed)
            assert outcome in ("right", "refused", "unseen"), f"seed {seed}: {outcome}: {detail}"
            counts[outcome] += 1
    finally:
        logging.disable(logging.NOTSET)
    assert counts["refused"] > 75


def test_odd_volumes_are_translated_or_refused_in_one_line(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    folder = odd_volumes.prepare(tmp_path)
    for seed in range(50):
        outcome, detail = odd_volumes.judge(folder, seed)
        assert outcome in ("done", "refused"), f"seed {seed}: {outcome}: {detail}"
        counts[outcome] += 1
    assert min(counts["done"], counts["refused"]) >= 15


def test_no_marker_of_the_inputs_comes_out(tmp_path: Path) -> None:
    work, marked = privacy.prepare(tmp_path)
    assert marked > 1500
    for arguments in privacy.commands(tmp_path / f"in-{planted.IN_NAMES}")[:4]:
        outcome = run(arguments, work)
        assert outcome.kind == "done", outcome.err
        assert not privacy.said(arguments, outcome.out + outcome.err)
    assert planted.find(work, (planted.IN_NAMES, *planted.IN_HEADERS)) == []
    assert planted.find(tmp_path, planted.IN_HEADERS), "the search finds what is there"


def test_two_slicings_at_once_give_one_store(work: Path) -> None:
    expected = (work / "made" / "manifest.jsonl").read_bytes()
    assert concurrency.slice_twice(work, expected) == []
    assert concurrency.stale_locks(work, expected) == []


@pytest.mark.parametrize("name", ["slice-volumes", "translate to NIfTI", "translate to DICOM"])
def test_a_full_disk_is_a_line_and_nothing_partial(name: str, work: Path, tmp_path: Path) -> None:
    kind, wrong = disk_full.attempt(name, work, tmp_path, 4, mount=False)
    assert (kind, wrong) == ("refused", [])


@pytest.mark.parametrize("command", kills.COMMANDS[:4:2], ids=lambda command: command.name)
def test_a_kill_leaves_whole_files_and_a_rerun_ends_as_if_nothing_had_been(command: kills.Command, work: Path) -> None:
    assert kills.torment(command, work, 2, seed=5)[1] == []


def test_the_search_for_what_is_not_whole_finds_it(work: Path) -> None:
    assert wholeness.faults(work) == []
    stack = next((work / "made" / "ct").glob("*.npy"))
    stack.write_bytes(stack.read_bytes()[:-1])
    (work / "model" / "G_AB.safetensors").write_bytes(b"x")
    assert len(wholeness.faults(work)) >= 4
