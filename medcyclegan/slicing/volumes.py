"""``slice_volumes``: folders of volumes become a slice store that training reads by memory map."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medcyclegan.config import Config, Domain
from medcyclegan.errors import ConfigError, ReadError, StoreError, UsageError
from medcyclegan.io import FoundVolume, ReadOptions
from medcyclegan.manifest import SliceRow, Split
from medcyclegan.progress import progress_bar
from medcyclegan.provenance import now, versions
from medcyclegan.shards import share_of
from medcyclegan.slicing.case import CaseJob, preparation_of, refuse_case, slice_case
from medcyclegan.slicing.domains import Member, find_members, members_by_domain
from medcyclegan.slicing.sheets import save_contact_sheets
from medcyclegan.slicing.split import assign_splits, describe_splits, read_split_file
from medcyclegan.slicing.store import Refusal, SliceStore, open_store
from medcyclegan.slicing.workers import run_in_processes
from medcyclegan.storage import atomic_write

__all__ = ["SlicingResult", "slice_volumes"]

log = logging.getLogger(__name__)

#: What all slices of a store share, whatever their domain: a training wants it so.
_ONE_FORM = ("size", "fit", "pixel_mm")


@dataclasses.dataclass(frozen=True)
class SlicingResult:
    """What came of :func:`slice_volumes`: the rows sliced now, those found finished, and the refusals.

    ``refused_volumes``: the volume of each refusal, by its own name; the store itself keeps no name.
    """

    store: Path
    sliced: tuple[SliceRow, ...]
    finished: tuple[SliceRow, ...]
    refused: tuple[Refusal, ...]
    refused_volumes: tuple[FoundVolume, ...] = ()


def slice_volumes(
    inputs: str | Path | Sequence[str | Path] | Mapping[str, Sequence[FoundVolume]] = "volumes",
    out: str | Path = "slices",
    *,
    config: Config | None = None,
    domain: str | None = None,
    split_file: str | Path | None = None,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    **reading: Any,
) -> SlicingResult:
    """Cut axial slices out of volumes into the slice store ``out``.

    ``inputs``: folders that hold ``<domain>/<volumes>``, or with ``domain`` that domain's volumes; or
    the volumes that were found already, by domain.
    ``config``: its ``slicing``, ``domains`` and ``seed`` count. ``split_file``: a CSV (case, patient,
    split) that decides before any guess; a case is named by its path under the domain, with or
    without ending. ``workers``: processes. ``shard``: (this one, of how many), 0-based. ``reading``:
    the fields of :class:`~medcyclegan.io.ReadOptions`; volumes that say that they are synthetic are refused unless
    ``allow_synthetic=True``.

    Writes ``<domain>/<case>.npy``, ``manifest.jsonl``, ``refused.jsonl`` and a contact sheet per
    domain; cases that are finished are left as they are. A refused volume does not stop the rest.
    Raises :class:`~medcyclegan.errors.ReadError` for inputs without volumes,
    :class:`~medcyclegan.errors.StoreError` for a store that was made another way.
    """
    config = config or Config()
    if not 0 <= shard[0] < shard[1]:
        raise UsageError(f"shard {shard[0]} of {shard[1]}: shards count from 0 to one less than their number")
    if workers < 1:
        raise UsageError(f"{workers} workers: at least 1 is needed")
    started, options = time.monotonic(), ReadOptions(**{"allow_synthetic": False, **reading})
    members = _members(inputs, domain, options)
    store = open_store(Path(out))
    with store.lock(f"shard-{shard[0]}-of-{shard[1]}"):
        store.remove_leftovers()
        own = _plan(members, store, config, options, _read_splits(split_file), shard)
        finished, todo = _sort_out(own, store)
        if finished:
            log.info("%d of %d volumes are sliced already", len(finished), len(own))
        results = _run(todo, workers)
        refused = tuple(r for r in results if isinstance(r, Refusal))
        volumes = tuple(job.found for job, r in zip(todo, results, strict=True) if isinstance(r, Refusal))
        store.save_refusals([(job.domain, job.case) for job in own], refused)
        rows = store.save_manifest()
        save_contact_sheets(store.folder, rows)
        _save_record(store.folder, rows, len(refused), time.monotonic() - started)
    _say_counts(rows)
    sliced = tuple(r for r in results if isinstance(r, SliceRow))
    return SlicingResult(store.folder, sliced, tuple(finished), refused, volumes)


def _members(
    inputs: str | Path | Sequence[str | Path] | Mapping[str, Sequence[FoundVolume]],
    domain: str | None,
    options: ReadOptions,
) -> list[Member]:
    if isinstance(inputs, Mapping):
        if domain is not None:
            raise UsageError(f"domain {domain!r} and volumes by domain: name the domains once")
        return members_by_domain(inputs)
    paths = [inputs] if isinstance(inputs, (str, Path)) else inputs
    return find_members([Path(path) for path in paths], domain, options)


def _say_counts(rows: Sequence[SliceRow]) -> None:
    for name in sorted({row.domain for row in rows}):
        own = [row for row in rows if row.domain == name]
        slices, plural = sum(len(row.slices) for row in own), "" if len(own) == 1 else "s"
        splits = describe_splits([row.split for row in own])
        log.info("%s: %d slices of %d volume%s (%s)", name, slices, len(own), plural, splits)


def _read_splits(split_file: str | Path | None) -> dict[str, tuple[str, Split]]:
    if split_file is None:
        return {}
    return {case: (patient, split) for case, patient, split in read_split_file(Path(split_file))}


def _plan(
    members: Sequence[Member],
    store: SliceStore,
    config: Config,
    options: ReadOptions,
    given: dict[str, tuple[str, Split]],
    shard: tuple[int, int],
) -> list[CaseJob]:
    """Name every case, decide its split, and return the jobs of one shard: only its files are looked at."""
    unused = set(given)
    patients: dict[str, set[str]] = {}
    known: dict[str, Split] = {}
    named: list[tuple[Member, str]] = []
    earlier = {row.patient: row.split for row in store.rows()}
    for member in members:
        key = next((k for k in _split_keys(member) if k in given), None)
        patient, split = given[key] if key is not None else (member.patient, member.split)
        unused.discard(key or "")
        if split is not None:
            known[patient] = split
        elif store.name("patient", patient) in earlier:
            known.setdefault(patient, earlier[store.name("patient", patient)])
        patients.setdefault(member.domain, set()).add(patient)
        named.append((member, patient))
    if unused and len(unused) == len(given):
        raise ConfigError(
            f"none of the {len(given)} cases of the split file is among the volumes, such as {min(unused)!r}"
        )
    for case in sorted(unused):
        log.warning("the split file names %r, which is not among the volumes", case)
    fractions = (config.slicing.validation_fraction, config.slicing.test_fraction)
    splits = assign_splits(patients, seed=config.seed, fractions=fractions, known=known)
    own = share_of(named, shard)
    return [_job(member, patient, splits[patient], store, config, options) for member, patient in own]


def _split_keys(member: Member) -> Iterator[str]:
    """The names by which a split file may call a case."""
    yield member.found.name
    yield f"{member.domain}/{member.found.name}"
    yield member.found.path.name
    yield member.found.name.rpartition("/")[2]


def _job(
    member: Member, patient: str, split: Split, store: SliceStore, config: Config, options: ReadOptions
) -> CaseJob:
    found = member.found
    return CaseJob(
        found=found,
        reading=options,
        domain=member.domain,
        rule=config.domains.get(member.domain, Domain()),
        slicing=config.slicing,
        store=store,
        case=store.name("case", member.domain, member.split or "", found.name),
        patient=store.name("patient", patient),
        split=split,
        input=store.name("input", *_stamps(found), json.dumps(dataclasses.asdict(options))),
    )


def _stamps(found: FoundVolume) -> Iterator[str]:
    """Yield what changes when a volume's files do: sizes and modification times."""
    for file in found.files:
        try:
            # a broken link, which is refused later, has a size and a time of its own
            status = file.stat() if file.exists() else file.lstat()
        except OSError as error:
            raise ReadError(f"{file} cannot be looked at: {error.strerror}") from None
        yield f"{status.st_size}:{status.st_mtime_ns}"


def _sort_out(jobs: Iterable[CaseJob], store: SliceStore) -> tuple[list[SliceRow], list[CaseJob]]:
    """Part the cases that are finished from those to be sliced; never mix two preparations."""
    finished, todo = [], []
    own = list(jobs)
    _check_one_form(own, store)
    for job in own:
        row = store.row(job.domain, job.case)
        if row is None or row.input != job.input:
            todo.append(job)
            continue
        wanted = preparation_of(job.slicing, job.rule)
        if row.preparation != wanted:
            changed = [k for k in wanted if row.preparation.get(k) != wanted[k]]
            before, after = ({k: p.get(k) for k in changed} for p in (row.preparation, wanted))
            raise StoreError(
                f"{store.folder} was made with {before}, not {after}: slices made in two ways cannot be mixed; "
                "choose another --out, or remove the folder"
            )
        if row.split != job.split or row.patient != job.patient:
            row = dataclasses.replace(row, split=job.split, patient=job.patient)
            store.save_row(row)
        finished.append(row)
    return finished, todo


def _check_one_form(jobs: Sequence[CaseJob], store: SliceStore) -> None:
    """Refuse slices of another size than the store's, and of a domain's volumes prepared in another way.

    The store's other volumes are looked at: those of earlier calls, of other shards, and of the other domain.
    """
    own, of_domain = {(job.domain, job.case) for job in jobs}, {job.domain: job for job in jobs}
    for row in store.rows() if jobs else ():
        if (row.domain, row.case) in own:
            continue
        job = of_domain.get(row.domain, jobs[0])
        wanted = preparation_of(job.slicing, job.rule)
        for key in wanted if row.domain in of_domain else _ONE_FORM:
            if row.preparation.get(key) != wanted[key]:
                raise StoreError(
                    f"{store.folder} holds {row.domain} with {key} {row.preparation.get(key)}, not {wanted[key]}: all "
                    "of a store need one form; slice with the same options, or choose another --out"
                )


def _run(jobs: Sequence[CaseJob], workers: int) -> list[SliceRow | Refusal]:
    """Slice every job, in this process or in ``workers`` others; results in the jobs' order.

    One whose process is killed is refused.
    """
    results: dict[int, SliceRow | Refusal] = {}
    with progress_bar("slicing", len(jobs)) as bar:
        if workers == 1 or len(jobs) < 2:
            ended: Iterable[tuple[int, SliceRow | Refusal]] = ((n, slice_case(job)) for n, job in enumerate(jobs))
        else:
            ended = run_in_processes(slice_case, jobs, workers, _killed)
        for number, result in ended:
            results[number] = result
            bar.advance()
    return [results[number] for number in range(len(jobs))]


def _killed(job: CaseJob) -> Refusal:
    """Say which volume a worker was killed over, twice."""
    return refuse_case(job, "its worker process was killed, most often for want of memory: use fewer --workers")


def _save_record(folder: Path, rows: Sequence[SliceRow], refused: int, seconds: float) -> None:
    """Write ``run.json``: versions, time and counts; no input's name."""
    record = {
        "versions": versions(),
        "ended": now(),
        "seconds": round(seconds, 3),
        "volumes": len(rows),
        "slices": sum(len(row.slices) for row in rows),
        "refused": refused,
        "preparation": dict(rows[0].preparation) if rows else {},
    }
    with atomic_write(folder / "run.json") as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
