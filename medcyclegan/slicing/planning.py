"""Plan a call of ``slice_volumes`` before any voxel is read: patients, splits, and one job per volume.

The plan follows from the names and headers of all volumes, the configuration, the split file, and the existing rows of
the store, so all shards make the same plan.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from medcyclegan.config import Config, Domain
from medcyclegan.errors import ConfigError, ReadError, StoreError
from medcyclegan.io import FoundVolume, ReadOptions
from medcyclegan.manifest import PATIENT_SOURCES, SliceRow, Split
from medcyclegan.slicing.case import CaseJob, Partner, preparation_of
from medcyclegan.slicing.domains import Member, check_one_modality
from medcyclegan.slicing.missing import case_of, origin_of
from medcyclegan.slicing.patients import Identity, identify_patients
from medcyclegan.slicing.patients.identify import case_names
from medcyclegan.slicing.settle import strongest_split
from medcyclegan.slicing.split import assign_splits, read_split_file
from medcyclegan.slicing.store import SliceStore

__all__ = [
    "PlannedCase",
    "apply_plan",
    "build_job",
    "find_modalities",
    "plan_cases",
    "report_patients",
    "sort_out",
]

log = logging.getLogger(__name__)

#: Settings that all slices of a store share, in all domains, as training requires.
_ONE_FORM = ("size", "fit", "pixel_mm", "registration")
#: Number of patients, and of cases of each, that are listed.
_LISTED, _LISTED_CASES = 20, 4
_GUESSES = ("folder", "name", "doubtful")


@dataclasses.dataclass(frozen=True)
class PlannedCase:
    """A volume with its patient and its split."""

    member: Member
    identity: Identity
    split: Split


def plan_cases(
    members: Sequence[Member],
    config: Config,
    split_file: Path | None,
    store: SliceStore | None,
    rows: Sequence[SliceRow],
) -> list[PlannedCase]:
    """Determine patients and splits; ``rows``: the existing rows of ``store``, whose splits are kept.

    Raises :class:`~medcyclegan.errors.ConfigError` for a split file that does not fit the volumes.
    """
    given = _read_given(members, split_file)
    identities = identify_patients(members, given)
    known: dict[str, Split] = {}
    for identity in identities:
        if identity.split is not None:
            known[identity.patient] = identity.split
    for patient, earlier in _earlier_splits(members, identities, store, rows).items():
        known.setdefault(patient, strongest_split(earlier))
    patients: dict[str, set[str]] = collections.defaultdict(set)
    for member, identity in zip(members, identities, strict=True):
        patients[member.domain].add(identity.patient)
        if identity.patient_source == "doubtful":
            known.setdefault(identity.patient, "train")
    fractions = (config.slicing.validation_fraction, config.slicing.test_fraction)
    splits = assign_splits(patients, seed=config.seed, fractions=fractions, known=known)
    return [PlannedCase(m, i, splits[i.patient]) for m, i in zip(members, identities, strict=True)]


def report_patients(cases: Sequence[PlannedCase]) -> None:
    """Log how patients were determined, and a table of those that were guessed."""
    sources = collections.Counter(case.identity.patient_source for case in cases)
    for source, words in PATIENT_SOURCES.items():
        if sources[source]:
            log.info("patients of %d volume%s: %s", sources[source], "" if sources[source] == 1 else "s", words)
    guessed: dict[str, list[PlannedCase]] = collections.defaultdict(list)
    for case in cases:
        if case.identity.patient_source in _GUESSES:
            guessed[case.identity.patient].append(case)
    if not guessed:
        return
    log.info("patient | split | cases")
    for patient in sorted(guessed)[:_LISTED]:
        names = sorted(f"{case.member.folder}/{case.member.found.name}" for case in guessed[patient])
        more = f" and {len(names) - _LISTED_CASES} more" if len(names) > _LISTED_CASES else ""
        log.info("%s | %s | %s%s", patient, guessed[patient][0].split, ", ".join(names[:_LISTED_CASES]), more)
    if len(guessed) > _LISTED:
        log.info("... and %d more patients", len(guessed) - _LISTED)
    log.info(
        "check these guesses; --write-split-file CSV writes all of them, --split-file CSV reads the corrected file"
    )
    doubtful = [case for case in cases if case.identity.patient_source == "doubtful"]
    if doubtful:
        log.warning(
            "the names of %d volumes, such as %s, do not show which belong to one patient: all count as one "
            "patient and are kept in one split; name their patients with --split-file (--write-split-file CSV writes a "
            "template)",
            len(doubtful), doubtful[0].member.found.name,
        )  # fmt: skip


def find_modalities(
    members: Sequence[Member], config: Config, store: SliceStore, rows: Sequence[SliceRow]
) -> dict[str, str]:
    """Return the modality of each domain for which DICOM headers, or other rows of the store, state one.

    Domains whose modality is configured are left out: there, only a volume that contradicts it is refused.
    Raises :class:`~medcyclegan.errors.IntensityError` for a domain of several modalities.
    """
    found: dict[str, dict[str, list[str]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    own = set()
    for member in members:
        own.add((member.domain, case_of(store, member)))
        name = f"{member.folder}/{member.found.name}"
        if member.found.kind == "image":
            found[member.domain]["pictures"].append(name)
        elif member.found.modality is not None:
            found[member.domain][member.found.modality].append(name)
        else:
            found[member.domain][""].append(name)
    for row in rows:
        if (row.domain, row.case) not in own and row.domain in found:
            found[row.domain][row.modality or "pictures"].append("a volume of an earlier call")
    known: dict[str, str] = {}
    for domain, modalities in found.items():
        if config.domains.get(domain, Domain()).modality is not None:
            continue
        unknown = modalities.pop("", [])
        if unknown and set(modalities) == {"pictures"}:
            modalities["volumes"] = unknown
        check_one_modality(domain, modalities)
        for modality in modalities:
            if modality in ("CT", "MR"):
                known[domain] = modality
    return known


def build_job(
    case: PlannedCase,
    store: SliceStore,
    config: Config,
    options: ReadOptions,
    modalities: Mapping[str, str],
    partner: PlannedCase | None = None,
) -> CaseJob:
    """Return the job of one volume, onto the grid of its ``partner``; this reads the sizes and times of their files."""
    member, onto = case.member, None
    stamps = [*_stamps(member.found), json.dumps(dataclasses.asdict(options))]
    if partner is not None:
        other = partner.member
        settings = config.domains.get(other.domain, Domain())
        onto = Partner(other.found, other.domain, settings, case_of(store, other), modalities.get(other.domain))
        stamps += [onto.case, *_stamps(other.found)]
    return CaseJob(
        found=member.found,
        reading=options,
        domain=member.domain,
        settings=config.domains.get(member.domain, Domain()),
        slicing=config.slicing,
        store=store,
        case=case_of(store, member),
        patient=store.name("patient", case.identity.patient),
        patient_source=case.identity.patient_source,
        split=case.split,
        input=store.name("input", *stamps),
        origin=origin_of(store, member.source),
        headers=modalities.get(member.domain),
        partner=onto,
    )


def apply_plan(row: SliceRow, case: PlannedCase | None, store: SliceStore) -> SliceRow:
    """Return ``row`` with the planned patient and split of its volume, if the volume is part of the call."""
    if case is None:
        return row
    patient, source = store.name("patient", case.identity.patient), case.identity.patient_source
    return dataclasses.replace(row, patient=patient, split=case.split, patient_source=source)


def sort_out(
    jobs: Sequence[CaseJob], store: SliceStore, rows: Sequence[SliceRow]
) -> tuple[list[SliceRow], list[CaseJob]]:
    """Separate finished cases from those to be sliced; refuse to mix two preparations.

    Finished rows are updated if the patient, the split or the folder has changed.
    """
    finished, todo = [], []
    _check_one_form(jobs, store, rows)
    known = {(row.domain, row.case): row for row in rows}
    for job in jobs:
        row = known.get((job.domain, job.case))
        if row is None or row.input != job.input:
            todo.append(job)
            continue
        wanted = preparation_of(job.slicing, job.settings)
        if row.preparation != wanted:
            changed = [k for k in {**row.preparation, **wanted} if row.preparation.get(k) != wanted.get(k)]
            before, after = (", ".join(f"{k} {p.get(k)}" for k in changed) for p in (row.preparation, wanted))
            raise StoreError(
                f"{store.folder} was made with {before}, not {after}: slices with different settings cannot be mixed; "
                "choose another --out, or remove the folder"
            )
        now = dataclasses.replace(
            row, patient=job.patient, split=job.split, patient_source=job.patient_source, origin=job.origin
        )
        if now != row:
            store.save_row(now)
        finished.append(now)
    return finished, todo


def _read_given(members: Sequence[Member], split_file: Path | None) -> dict[str, tuple[str, Split]]:
    if split_file is None:
        return {}
    given = {case: (patient, split) for case, patient, split in read_split_file(split_file)}
    used = {next((name for name in case_names(member) if name in given), "") for member in members}
    unused = set(given) - used
    if unused and len(unused) == len(given):
        raise ConfigError(
            f"none of the {len(given)} cases of the split file is among the volumes, such as {min(unused)!r}"
        )
    for case in sorted(unused):
        log.warning("the split file names %r, which is not among the volumes", case)
    return given


def _earlier_splits(
    members: Sequence[Member], identities: Sequence[Identity], store: SliceStore | None, rows: Sequence[SliceRow]
) -> dict[str, list[Split]]:
    """Return the splits of each patient in the rows of the store, found by patient or by volume."""
    found: dict[str, list[Split]] = collections.defaultdict(list)
    if store is None or not rows:
        return found
    by_case = {(row.domain, row.case): row.split for row in rows}
    by_patient: dict[str, list[Split]] = collections.defaultdict(list)
    for row in rows:
        by_patient[row.patient].append(row.split)
    for member, identity in zip(members, identities, strict=True):
        case = (member.domain, case_of(store, member))
        if case in by_case:
            found[identity.patient].append(by_case[case])
    for patient in {identity.patient for identity in identities}:
        found[patient] += by_patient.get(store.name("patient", patient), [])
    return {patient: splits for patient, splits in found.items() if splits}


def _stamps(found: FoundVolume) -> Iterator[str]:
    """Yield the sizes and modification times of a volume's files, which change when the files do."""
    for file in found.files:
        try:
            # A broken link, which is refused later, itself has a size and a time.
            status = file.stat() if file.exists() else file.lstat()
        except OSError as error:
            raise ReadError(f"{file} cannot be accessed: {error.strerror}") from None
        yield f"{status.st_size}:{status.st_mtime_ns}"


def _check_one_form(jobs: Sequence[CaseJob], store: SliceStore, rows: Iterable[SliceRow]) -> None:
    """Refuse slices of another size than those in the store, and domains whose volumes are prepared differently.

    This checks the other volumes of the store: those of earlier calls, of other shards, and of other domains.
    """
    own, of_domain = {(job.domain, job.case) for job in jobs}, {job.domain: job for job in jobs}
    for row in rows if jobs else ():
        if (row.domain, row.case) in own:
            continue
        job = of_domain.get(row.domain, jobs[0])
        wanted = preparation_of(job.slicing, job.settings)
        for key in {**row.preparation, **wanted} if row.domain in of_domain else _ONE_FORM:
            if row.preparation.get(key) != wanted.get(key):
                raise StoreError(
                    f"{store.folder} holds {row.domain} with {key} {row.preparation.get(key)}, not {wanted.get(key)}: "
                    "all slices of a store need the same form; slice with the same options, or choose another --out"
                )
