"""Evaluate files and write a table, as ``medcyclegan evaluate`` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medcyclegan.dose import check_organ_names, require_pyradplan
from medcyclegan.errors import ReadError, UsageError
from medcyclegan.evaluation.cases import CaseScores, EvaluationOptions, Refusal, evaluate_pairs
from medcyclegan.evaluation.pairs import Pair, find_pairs, names_pairs, read_pairs, with_fakes
from medcyclegan.evaluation.statistics import compare_models, shared_cases
from medcyclegan.evaluation.tables import load_scores, to_json, write_table
from medcyclegan.evaluation.unpaired import compare_sets, frechet_of_files, sample_set, sample_tissue_means
from medcyclegan.io import ReadOptions, find_volumes, read_found_volume
from medcyclegan.shards import share_of
from medcyclegan.storage import atomic_write, check_output
from medcyclegan.volume import Volume

if TYPE_CHECKING:
    from medcyclegan.model import ModelBundle

__all__ = ["EvaluatedSet", "EvaluationRequest", "evaluate_files", "evaluate_unpaired_files"]


@dataclasses.dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate: the options of ``medcyclegan evaluate``, which its help describes."""

    fake: Path | None = None
    reference: Path | None = None
    pairs: Path | None = None
    mask: Path | None = None
    source: Path | None = None
    save_mask: Path | None = None
    compare: Path | None = None
    out: Path | None = None
    modality: Literal["CT", "MR"] | None = None
    register: Literal["rigid"] | None = None
    model: Path | None = None
    dose: bool = False
    target: Path | None = None
    organs: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    overwrite: bool = False
    shard: tuple[int, int] = (0, 1)
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)


@dataclasses.dataclass(frozen=True)
class EvaluatedSet:
    """The scored and the refused cases of an evaluation, and the comparison with another model, or None."""

    cases: tuple[CaseScores, ...]
    refused: tuple[Refusal, ...]
    comparison: Mapping[str, Any] | None


def evaluate_files(request: EvaluationRequest, report: Callable[[CaseScores], None] | None = None) -> EvaluatedSet:
    """Score each pair of ``request``, and write the requested table and masks.

    ``report`` is called with each case as soon as it is scored. Raises a
    :class:`~medcyclegan.errors.MedCycleGANError` at the start for a request that cannot succeed.
    """
    _check_outputs(request)
    _check_dose(request)
    pairs = list(share_of(_pairs(request), request.shard))
    if not pairs:
        raise UsageError(f"shard {request.shard[0]} of {request.shard[1]} is empty: there are fewer cases than shards")
    if request.model is not None and not any(pair.source for pair in pairs):
        raise UsageError("--model without --input: its tissue means are those of an input: name the inputs too")
    check_organ_names(dict.fromkeys(name for pair in pairs for name in pair.organs))
    if request.dose:
        require_pyradplan()
    elif any(pair.target or pair.organs for pair in pairs):
        raise UsageError("--pairs: its columns target and organ:NAME are for --dose: add it, or leave them out")
    options = _options(request)
    others = None if request.compare is None else _other_scores(request.compare, request, pairs)
    cases: list[CaseScores] = []
    refused: list[Refusal] = []
    for result in evaluate_pairs(pairs, options):
        if isinstance(result, Refusal):
            refused.append(result)
            continue
        cases.append(result)
        if report is not None:
            report(result)
    if not cases:
        raise ReadError(f"none of the {len(refused)} cases could be scored: see the reasons above")
    comparison = None
    if others is not None:
        comparison = compare_models({case.case: case.to_dict() for case in cases}, others())
    if request.out is not None:
        write_table(request.out, cases, refused, comparison)
    return EvaluatedSet(tuple(cases), tuple(refused), comparison)


def evaluate_unpaired_files(request: EvaluationRequest, features: tuple[Path, Path] | None = None) -> dict[str, Any]:
    """Return the distances between the sets of volumes in ``request.fake`` and ``request.reference``.

    ``features``: files of feature vectors of both sets, for the Fréchet distance. Raises a
    :class:`~medcyclegan.errors.MedCycleGANError` for options that require pairs.
    """
    if request.shard[1] > 1:
        raise UsageError("--num-shards and --unpaired: a set must be compared as a whole: leave out one of the two")
    for name in ("pairs", "mask", "save_mask", "compare", "register", "dose", "target", "organs"):
        if getattr(request, name):
            option = name.removesuffix("s") if name == "organs" else name.replace("_", "-")
            raise UsageError(f"--{option} and --unpaired: the option requires pairs: leave it out")
    if request.fake is None or request.reference is None:
        raise UsageError("two folders of volumes are needed, FAKE and REFERENCE")
    if request.out is not None and request.out.suffix.lower() == ".csv":
        raise UsageError(
            f"--out {request.out}: distances of two sets are written as JSON: choose a name that ends in .json"
        )
    if request.model is not None and request.source is None:
        raise UsageError("--model without --input: its tissue means are those of an input: name the inputs too")
    _check_outputs(request)
    frechet = None if features is None else frechet_of_files(*features)
    shared = _shared_reading(request)
    # An input has the other contrast, so its values determine whether it is a CT.
    inputs = None if request.source is None else sample_set(_volumes(request.source, ReadOptions(), shared))
    fakes = sample_set(_volumes(request.fake, ReadOptions(), shared), modality=request.modality)
    references = sample_set(
        _volumes(request.reference, request.reading, request.reading), modality=request.modality, water=True
    )
    means = None
    if request.source is not None and request.model is not None:
        means = sample_tissue_means(_volumes(request.source, ReadOptions(), shared), _load_model(request.model))
    result = {**compare_sets(fakes, references, inputs, means), "frechet": frechet}
    if request.out is not None:
        with atomic_write(request.out) as file:
            file.write((to_json(result, indent=2) + "\n").encode())
    return result


def _pairs(request: EvaluationRequest) -> list[Pair]:
    if request.pairs is not None:
        if request.fake is not None or request.mask is not None or request.source is not None:
            raise UsageError("--pairs with FAKE, --mask or --input: the CSV contains them: give one or the other")
        if request.target is not None or request.organs:
            raise UsageError(
                "--pairs with --target or --organ: name the masks in the columns target and organ:NAME of the CSV"
            )
        return read_pairs(request.pairs, request.reading)
    if request.fake is None or request.reference is None:
        raise UsageError("FAKE and REFERENCE are missing: give two volumes or folders, or --pairs CSV")
    return find_pairs(
        request.fake,
        request.reference,
        mask=request.mask,
        source=request.source,
        target=request.target,
        organs=request.organs,
        options=request.reading,
    )


def _other_scores(path: Path, request: EvaluationRequest, pairs: list[Pair]) -> Callable[[], dict[str, Any]]:
    """Return a function that returns the scores of the other model, from its table or by scoring its volumes."""
    if request.shard[1] > 1:
        raise UsageError("--num-shards and --compare: a comparison needs all cases: leave out one of the two")
    if len(pairs) < 2:
        raise UsageError(f"--compare {path}: a paired test needs two or more cases: give folders, or pairs in a CSV")
    if len({pair.patient for pair in pairs}) < 2:
        raise UsageError(
            f"--compare {path}: {len(pairs)} cases of one patient: a paired test needs two or more patients"
        )
    if path.suffix.lower() == ".json" or (path.suffix.lower() == ".csv" and not names_pairs(path)):
        scores = load_scores(path)
        shared_cases([pair.case for pair in pairs], scores)
        return lambda: scores
    other_pairs = read_pairs(path, request.reading) if path.suffix.lower() == ".csv" else with_fakes(pairs, path)
    shared_cases([pair.case for pair in pairs], [pair.case for pair in other_pairs])
    options = _options(dataclasses.replace(request, out=None, save_mask=None, model=None, dose=False))

    def evaluate() -> dict[str, Any]:
        results = evaluate_pairs(other_pairs, options)
        return {result.case: result.to_dict() for result in results if isinstance(result, CaseScores)}

    return evaluate


def _options(request: EvaluationRequest) -> EvaluationOptions:
    return EvaluationOptions(
        modality=request.modality,
        register=request.register,
        reading=request.reading,
        save_mask=request.save_mask,
        pictures=request.out is not None,
        overwrite=request.overwrite,
        model=None if request.model is None else _load_model(request.model),
        dose=request.dose,
    )


def _check_dose(request: EvaluationRequest) -> None:
    """Refuse options that cannot be combined with a dose, and masks without one."""
    if not request.dose:
        if request.target is not None or request.organs:
            raise UsageError("--target and --organ are masks for the dose: add --dose, or leave them out")
        return
    if request.register is not None:
        raise UsageError("--dose with --register: a plan needs both CTs on one grid: leave out one of the two")
    if request.modality == "MR":
        raise UsageError("--dose with --modality MR: a plan needs CTs: leave out one of the two")


def _check_outputs(request: EvaluationRequest) -> None:
    if request.out is not None:
        if request.out.suffix.lower() not in (".csv", ".json"):
            raise UsageError(f"--out {request.out}: the table is a .csv or a .json file: choose such a name")
        check_output(request.out, overwrite=request.overwrite)


def _load_model(path: Path) -> ModelBundle:
    from medcyclegan.model import ModelBundle

    return ModelBundle.load(path)


def _shared_reading(request: EvaluationRequest) -> ReadOptions:
    """Return the reading options for volumes other than the references: those without a selection of a series."""
    return dataclasses.replace(request.reading, series=None, split_by=None, volume=None)


def _volumes(path: Path, options: ReadOptions, reading: ReadOptions) -> Iterator[Volume]:
    """Yield the volumes in ``path`` that ``options`` select, one at a time."""
    for found in find_volumes(path, options):
        yield read_found_volume(found, reading)
