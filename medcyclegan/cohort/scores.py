"""Scores of a study's held-out volumes, against images of the same patients, or else as a set."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from medcyclegan.cohort.bids import parse_bids_name
from medcyclegan.cohort.ledger import update_ledger
from medcyclegan.cohort.naming import find_derivative
from medcyclegan.errors import ReadError
from medcyclegan.evaluation import (
    CaseScores,
    EvaluationOptions,
    Pair,
    Refusal,
    compare_sets,
    evaluate_pairs,
    find_one,
    sample_set,
    sample_tissue_means,
    to_json,
    write_table,
)
from medcyclegan.io import FoundVolume, ReadOptions, read_found_volume
from medcyclegan.model import ModelBundle
from medcyclegan.model.training_set import tissue_means_fields
from medcyclegan.slicing import HeldOutVolume
from medcyclegan.storage import atomic_write
from medcyclegan.volume import Volume

__all__ = ["score_held_out", "score_held_out_sets"]

log = logging.getLogger(__name__)

_STAGE = "evaluate"


def score_held_out(held_out: Sequence[HeldOutVolume], translated: Path, target: str, table: Path) -> bool:
    """Score the translations in the data set ``translated`` against the same patients' images of domain ``target``.

    If a patient has several images, the one of the same BIDS session is used, else the first. All cases of a patient
    count as one in the summary. For outputs in HU, the baseline from the training set is in the sidecars of the
    translations. Writes ``table`` (.json or .csv, as ``evaluate --out`` does), replaces an existing one, and updates
    the ledger in its folder. Returns False, and writes nothing, if no held-out patient has both images.
    """
    pairs = _pairs(held_out, translated, target)
    if not pairs:
        return False
    results = list(evaluate_pairs(pairs, EvaluationOptions(pictures=True)))
    refused = [result for result in results if isinstance(result, Refusal)]
    cases = [result for result in results if isinstance(result, CaseScores)]
    update_ledger(table.parent, _STAGE, [pair.case for pair in pairs], {r.case: r.reason for r in refused})
    if not cases:
        raise ReadError(f"none of the {len(pairs)} held-out cases could be scored: see the ledger in {table.parent}")
    write_table(table, cases, refused)
    return True


def score_held_out_sets(
    held_out: Sequence[HeldOutVolume], translated: Path, target: str, out: Path, model: ModelBundle | None = None
) -> None:
    """Compare the translations with the held-out images of ``target`` as sets, and write the distances as JSON.

    ``model``: the model that made them, for the baseline from its training set (outputs in HU).
    """
    sources = [held.found for held in held_out if held.domain != target]
    fakes = [
        find_one(path) for path in (find_derivative(translated, found, target) for found in sources) if path.exists()
    ]
    references = [held.found for held in held_out if held.domain == target]
    options = ReadOptions()

    def volumes(found: Sequence[FoundVolume]) -> Iterator[Volume]:
        return (read_found_volume(each, options) for each in found)

    means = None
    if model is not None and tissue_means_fields(model.provenance, target) is not None:
        means = sample_tissue_means(volumes(sources), model)
    sets = sample_set(volumes(fakes)), sample_set(volumes(references), water=True), sample_set(volumes(sources))
    with atomic_write(out) as file:
        file.write((to_json(compare_sets(*sets, means), indent=2) + "\n").encode())


def _pairs(held_out: Sequence[HeldOutVolume], translated: Path, target: str) -> list[Pair]:
    references = collections.defaultdict(list)
    for held in held_out:
        if held.domain == target:
            references[held.patient].append(held.found)
    pairs = []
    for held in held_out:
        fake = find_derivative(translated, held.found, target)
        if held.domain == target or held.patient not in references or not fake.exists():
            continue
        reference = _same_session(held.found, references[held.patient])
        pairs.append(Pair(held.found.name, find_one(fake), reference, source=held.found, patient=held.patient))
    return pairs


def _same_session(found: FoundVolume, others: Sequence[FoundVolume]) -> FoundVolume:
    session = parse_bids_name(found.name)[0].get("ses")
    same = [other for other in others if session is not None and parse_bids_name(other.name)[0].get("ses") == session]
    return (same or list(others))[0]
