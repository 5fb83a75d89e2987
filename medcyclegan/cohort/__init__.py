"""Cohorts: many volumes, processed case by case, so that a crash or a refusal affects one case only."""

from medcyclegan.cohort.bids import derivative_path, open_derivative, parse_bids_name
from medcyclegan.cohort.cluster import cluster_options, run_on_cluster, shard_of
from medcyclegan.cohort.folders import find_many, translate_folder
from medcyclegan.cohort.found import load_found, save_found
from medcyclegan.cohort.ledger import Failure, read_ledger, update_ledger
from medcyclegan.cohort.scores import score_held_out, score_held_out_sets
from medcyclegan.cohort.scripts import run_script
from medcyclegan.cohort.stages import run_stage
from medcyclegan.cohort.study import (
    DomainTree,
    Study,
    find_study_volumes,
    load_study,
    parse_selection,
    save_study,
    select_volumes,
)
from medcyclegan.cohort.table import translations_table
from medcyclegan.cohort.translations import TranslatedCohort, TranslatedVolume, translate_cohort

__all__ = [
    "DomainTree",
    "Failure",
    "Study",
    "TranslatedCohort",
    "TranslatedVolume",
    "cluster_options",
    "derivative_path",
    "find_many",
    "find_study_volumes",
    "load_found",
    "load_study",
    "open_derivative",
    "parse_bids_name",
    "parse_selection",
    "read_ledger",
    "run_on_cluster",
    "run_script",
    "run_stage",
    "save_found",
    "save_study",
    "score_held_out",
    "score_held_out_sets",
    "select_volumes",
    "shard_of",
    "translate_cohort",
    "translate_folder",
    "translations_table",
    "update_ledger",
]
