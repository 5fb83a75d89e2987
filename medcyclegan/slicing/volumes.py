"""``slice_volumes``: cut folders of volumes into a slice store, which training reads as memory-mapped files."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medcyclegan.config import Config
from medcyclegan.errors import UsageError
from medcyclegan.io import FoundVolume, ReadOptions
from medcyclegan.io.notes import NoteLog
from medcyclegan.manifest import SliceRow
from medcyclegan.progress import progress_bar
from medcyclegan.provenance import now, versions
from medcyclegan.shards import share_of
from medcyclegan.slicing.case import CaseJob, CaseResult, refuse_case, slice_case
from medcyclegan.slicing.check import report_check
from medcyclegan.slicing.domains import Member, Source, find_members, members_by_domain
from medcyclegan.slicing.key_file import load_names, name_volumes
from medcyclegan.slicing.missing import Missing, case_of, find_missing, remove_missing
from medcyclegan.slicing.partners import find_partners
from medcyclegan.slicing.planning import (
    PlannedCase,
    apply_plan,
    build_job,
    find_modalities,
    plan_cases,
    report_patients,
    sort_out,
)
from medcyclegan.slicing.removal import finish_removal
from medcyclegan.slicing.settle import settle_rows
from medcyclegan.slicing.sheets import save_contact_sheets
from medcyclegan.slicing.split import FEWEST_TO_SPLIT
from medcyclegan.slicing.store import Refusal, SliceStore, open_store
from medcyclegan.storage import atomic_write
from medcyclegan.workers import run_in_processes

__all__ = ["Inputs", "SlicingResult", "find_inputs", "slice_volumes"]

log = logging.getLogger(__name__)

#: Folders, files, or the volumes of each domain.
Inputs = str | Path | Sequence[str | Path] | Mapping[str, Sequence[FoundVolume]]


@dataclasses.dataclass(frozen=True)
class SlicingResult:
    """Result of :func:`slice_volumes`: rows sliced in this call, rows finished before, and refusals.

    ``refused_volumes``: the volume of each refusal, with its name, which the store does not record.
    """

    store: Path
    sliced: tuple[SliceRow, ...]
    finished: tuple[SliceRow, ...]
    refused: tuple[Refusal, ...]
    refused_volumes: tuple[FoundVolume, ...] = ()


def slice_volumes(
    inputs: Inputs = "volumes",
    out: str | Path = "slices",
    *,
    config: Config | None = None,
    domain: str | None = None,
    split_file: str | Path | None = None,
    keep_missing: bool = False,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    reading: ReadOptions | None = None,
    allow_synthetic: bool = False,
) -> SlicingResult:
    """Cut axial slices out of volumes into the slice store ``out``.

    ``inputs``: folders that contain ``<domain>/<volumes>``, or with ``domain`` the volumes of that domain; or all
    volumes by domain, if they were found before. ``config``: only ``slicing``, ``domains`` and ``seed`` are used.
    ``split_file``: a CSV (case, patient, split) that takes precedence over any guess; a case is named by its path below
    the domain, with or without extension. ``keep_missing``: keep the slices of volumes that are no longer among the
    inputs. ``workers``: number of processes. ``shard``: (shard, number of shards), 0-based. Volumes that are marked as
    synthetic are refused unless both ``allow_synthetic`` and the option of that name in ``reading`` are set (it is by
    default).

    Writes ``<domain>/<case>.npy``, ``manifest.jsonl``, ``refused.jsonl`` and a contact sheet per domain; finished cases
    are not changed. The other volumes are sliced even if one is refused. Raises
    :class:`~medcyclegan.errors.ReadError` for inputs without volumes, :class:`~medcyclegan.errors.IntensityError` for a
    domain of several modalities, :class:`~medcyclegan.errors.StoreError` for a store with other settings.
    """
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"shard {shard[0]} of {shard[1]}: shards count from 0 to one less than their number")
    if workers < 1:
        raise UsageError(f"{workers} workers: at least 1 is needed")
    options = (reading or ReadOptions()).for_acquired(allow_synthetic=allow_synthetic)
    members, sources = find_inputs(inputs, domain, options)
    file = Path(split_file) if split_file is not None else None
    call = _Call(members, sources, open_store(Path(out)), config or Config(), options, file, keep_missing, shard)
    with call.store.lock(f"shard-{shard[0]}-of-{shard[1]}"):
        call.store.remove_leftovers()
        finish_removal(call.store)
        return _slice(call, _prepare(call), workers)


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call of :func:`slice_volumes` with the volumes that were found."""

    members: Sequence[Member]
    sources: Sequence[Source]
    store: SliceStore
    config: Config
    reading: ReadOptions
    split_file: Path | None
    keep_missing: bool
    shard: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Work:
    """The work of a call: all ``cases``, the ``own`` shard, and its ``finished`` and remaining (``todo``) cases."""

    cases: Sequence[PlannedCase]
    own: Sequence[CaseJob]
    finished: Sequence[SliceRow]
    todo: Sequence[CaseJob]


def _prepare(call: _Call) -> _Work:
    """Plan the work, and remove the slices of missing volumes."""
    store, config = call.store, call.config
    rows, missing = store.rows(), Missing()
    if not call.reading.series:  # a single selected series does not show whether others exist
        missing = find_missing(store, rows, call.members, call.sources, keep=call.keep_missing)
    gone = {(row.domain, row.case) for row in missing.rows}
    rows = [row for row in rows if (row.domain, row.case) not in gone]
    modalities = find_modalities(call.members, config, store, rows)
    cases = plan_cases(call.members, config, call.split_file, store, rows)
    if call.shard[0] == 0:
        report_patients(cases)
    partners = find_partners(cases, report=call.shard[0] == 0) if config.slicing.registration else {}
    own = [
        build_job(cases[n], store, config, call.reading, modalities, partners.get(n))
        for n in share_of(range(len(cases)), call.shard)
    ]
    finished, todo = sort_out(own, store, rows)
    found = {
        (case.member.domain, case_of(store, case.member)): (case.member.found.path, case.member.found.series_uid)
        for case in cases
    }
    forget = gone | {(item.domain, item.case) for item in missing.refusals}
    name_volumes(store, found, [(row.domain, row.case) for row in rows], forget=forget)
    remove_missing(store, missing)
    if missing.rows:
        _publish(store, cases)
    return _Work(cases, own, finished, todo)


def _slice(call: _Call, work: _Work, workers: int) -> SlicingResult:
    """Slice the unfinished cases and update the store."""
    store, started = call.store, time.monotonic()
    if work.finished:
        log.info("%d of %d volumes are sliced already", len(work.finished), len(work.own))
    results = _run(work.todo, workers)
    refused = [(job, r) for job, r in zip(work.todo, results, strict=True) if isinstance(r, Refusal)]
    for job, _ in refused:
        store.remove_case(job.domain, job.case)  # slices of an earlier version of the file
    store.save_refusals([(job.domain, job.case) for job in work.own], [refusal for _, refusal in refused])
    rows = _publish(store, work.cases, report=True)
    _save_record(store.folder, rows, len(refused), time.monotonic() - started)
    _report(store, rows, work, call.config)
    by_case = {(row.domain, row.case): row for row in rows}
    sliced = [row for row in results if isinstance(row, SliceRow)]
    return SlicingResult(
        store.folder,
        tuple(by_case.get((row.domain, row.case), row) for row in sliced),
        tuple(by_case.get((row.domain, row.case), row) for row in work.finished),
        tuple(refusal for _, refusal in refused),
        tuple(job.found for job, _ in refused),
    )


def find_inputs(inputs: Inputs, domain: str | None, options: ReadOptions) -> tuple[list[Member], list[Source]]:
    """Return the volumes and the sources of ``inputs``, which are as in :func:`slice_volumes`."""
    if isinstance(inputs, Mapping):
        if domain is not None:
            raise UsageError(f"domain {domain!r} and volumes by domain: name the domains once")
        members = members_by_domain(inputs)
        return members, sorted({member.source for member in members}, key=lambda s: (s.domain, str(s.folder)))
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    return find_members([Path(path) for path in paths], domain, options)


def _publish(store: SliceStore, cases: Sequence[PlannedCase], *, report: bool = False) -> list[SliceRow]:
    """Update the manifest and the contact sheets from the rows of the store and the plan for all volumes."""
    keys = [(case.member.domain, case_of(store, case.member)) for case in cases]
    names = {key: f"{case.member.folder}/{case.member.found.name}" for key, case in zip(keys, cases, strict=True)}
    planned = dict(zip(keys, cases, strict=True))

    def settle(rows: Sequence[SliceRow]) -> list[SliceRow]:
        # The rows of another shard may follow an earlier plan.
        current = [apply_plan(row, planned.get((row.domain, row.case)), store) for row in rows]
        return settle_rows(current, names, report=report)

    rows = store.save_manifest(settle)
    save_contact_sheets(store.folder, rows, load_names(store.folder))
    return rows


def _report(store: SliceStore, rows: Sequence[SliceRow], work: _Work, config: Config) -> None:
    """Log the check before training once all volumes of the call, in all shards, are sliced or refused."""
    done = {(row.domain, row.case) for row in rows} | {(item.domain, item.case) for item in store.refusals()}
    if {(case.member.domain, case_of(store, case.member)) for case in work.cases} <= done:
        report_check(store.folder, rows)
    wanted = {"validation": config.slicing.validation_fraction, "test": config.slicing.test_fraction}
    for name in sorted({row.domain for row in rows}):
        splits = {row.patient: row.split for row in rows if row.domain == name}
        lacking = [split for split, share in wanted.items() if share > 0 and split not in splits.values()]
        if lacking and len(splits) >= FEWEST_TO_SPLIT:
            log.warning("%s: no patient is held out for %s", name, " and ".join(lacking))


def _run(jobs: Sequence[CaseJob], workers: int) -> list[SliceRow | Refusal]:
    """Run all jobs, in this process or in ``workers`` processes; return results in the order of the jobs.

    A volume whose process is killed is refused. The same note on many volumes is logged once, with their number.
    """
    results: dict[int, SliceRow | Refusal] = {}
    notes = NoteLog(log)
    with progress_bar("slicing", len(jobs)) as bar:
        if workers == 1 or len(jobs) < 2:
            ended: Iterable[tuple[int, CaseResult]] = ((n, slice_case(job)) for n, job in enumerate(jobs))
        else:
            ended = run_in_processes(slice_case, jobs, workers, _killed)
        for number, result in ended:
            results[number] = result.outcome
            for note in result.notes:
                notes.log(note)
            bar.advance()
    notes.log_repeated()
    return [results[number] for number in range(len(jobs))]


def _killed(job: CaseJob) -> CaseResult:
    """Return the refusal of a volume for which a worker process was killed twice."""
    reason = "its worker process was killed, most often because memory ran out: use fewer --workers"
    return CaseResult(refuse_case(job, reason))


def _save_record(folder: Path, rows: Sequence[SliceRow], refused: int, seconds: float) -> None:
    """Write ``run.json``: versions, time and counts, without names of inputs; log the counts of registrations."""
    registered = sum(row.is_registered for row in rows)
    failed = sum(row.registration is not None for row in rows) - registered
    if registered or failed:
        log.info("volumes brought onto the grid of another one: %d; registrations refused: %d", registered, failed)
    record = {
        "versions": versions(),
        "ended": now(),
        "seconds": round(seconds, 3),
        "volumes": len(rows),
        "slices": sum(len(row.slices) for row in rows),
        "refused": refused,
        "registered": registered,
        "registrations_refused": failed,
        "preparation": dict(rows[0].preparation) if rows else {},
    }
    with atomic_write(folder / "run.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
