"""Evaluation: scores of translations, and of baselines that need no network.

Its names are imported on first use, so that scoring does not import torch, which only the calibration needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medcyclegan.lazy import imported_on_use

if TYPE_CHECKING:
    from medcyclegan.evaluation.calibration.calibrate import CalibrationOptions, calibrate_model
    from medcyclegan.evaluation.cases import CaseScores, EvaluationOptions, Refusal, evaluate_pairs
    from medcyclegan.evaluation.evaluate import Evaluation, evaluate_volumes
    from medcyclegan.evaluation.pairs import Pair, find_one, find_pairs, read_pairs
    from medcyclegan.evaluation.runs import EvaluatedSet, EvaluationRequest, evaluate_files, evaluate_unpaired_files
    from medcyclegan.evaluation.statistics import compare_models, mean_interval, summarize
    from medcyclegan.evaluation.tables import load_scores, merge_tables, to_json, write_table
    from medcyclegan.evaluation.text import rows_to_text, to_text
    from medcyclegan.evaluation.unpaired import (
        SetSamples,
        compare_sets,
        frechet_of_files,
        sample_set,
        sample_tissue_means,
    )

_HOME = {
    "CalibrationOptions": "calibration.calibrate",
    "CaseScores": "cases",
    "EvaluatedSet": "runs",
    "Evaluation": "evaluate",
    "EvaluationOptions": "cases",
    "EvaluationRequest": "runs",
    "Pair": "pairs",
    "Refusal": "cases",
    "SetSamples": "unpaired",
    "calibrate_model": "calibration.calibrate",
    "compare_models": "statistics",
    "compare_sets": "unpaired",
    "evaluate_files": "runs",
    "evaluate_pairs": "cases",
    "evaluate_unpaired_files": "runs",
    "evaluate_volumes": "evaluate",
    "find_one": "pairs",
    "find_pairs": "pairs",
    "frechet_of_files": "unpaired",
    "load_scores": "tables",
    "mean_interval": "statistics",
    "merge_tables": "tables",
    "read_pairs": "pairs",
    "rows_to_text": "text",
    "sample_set": "unpaired",
    "sample_tissue_means": "unpaired",
    "summarize": "statistics",
    "to_json": "tables",
    "to_text": "text",
    "write_table": "tables",
}

__all__ = [
    "CalibrationOptions",
    "CaseScores",
    "EvaluatedSet",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRequest",
    "Pair",
    "Refusal",
    "SetSamples",
    "calibrate_model",
    "compare_models",
    "compare_sets",
    "evaluate_files",
    "evaluate_pairs",
    "evaluate_unpaired_files",
    "evaluate_volumes",
    "find_one",
    "find_pairs",
    "frechet_of_files",
    "load_scores",
    "mean_interval",
    "merge_tables",
    "read_pairs",
    "rows_to_text",
    "sample_set",
    "sample_tissue_means",
    "summarize",
    "to_json",
    "to_text",
    "write_table",
]


__getattr__ = imported_on_use(__name__, _HOME)
