"""Slice the volumes of a cohort into a store, split by patient, with contact sheets for inspection.

    python pipelines/prepare_cohort.py STUDY --domain t1 bids suffix=T1w --domain t2 bids suffix=T2w
    python pipelines/prepare_cohort.py STUDY --domain ct ct_tree --domain mr mr_tree --cluster local --num-shards 4

A domain is a name, a folder, and optional BIDS entities that select among its volumes. Writes ``slices/``,
``study.json`` and, if volumes are refused, ``ledger.jsonl`` to STUDY. A second run completes what is missing
and removes the slices of volumes that are gone.
"""

import argparse
import sys
from pathlib import Path

from medcyclegan.cohort import (
    DomainTree,
    Study,
    cluster_options,
    find_study_volumes,
    load_found,
    parse_selection,
    run_on_cluster,
    run_script,
    save_found,
    save_study,
    shard_of,
    update_ledger,
)
from medcyclegan.config import load_config
from medcyclegan.shards import share_of
from medcyclegan.slicing import slice_volumes


def main() -> int:
    """Slice the volumes of this shard; return 1 if any is refused."""
    arguments = parse_arguments()
    folder = Path(arguments.study)
    trees = {name: DomainTree(Path(tree), parse_selection(select)) for name, tree, *select in arguments.domain}
    study = Study(trees, folder / "slices")
    save_study(folder, study)
    volumes = load_found(arguments.found, trees) if arguments.found else find_study_volumes(study)
    if arguments.cluster:
        return 1 if run_on_cluster(__file__, more=["--found", save_found(arguments.logs, volumes)]) else 0
    shard = shard_of(arguments)
    result = slice_volumes(
        volumes,
        folder / "slices",
        config=load_config(arguments.config),
        split_file=arguments.split_file,
        keep_missing=arguments.keep_missing,
        workers=arguments.workers,
        shard=shard,
    )
    tried = share_of([f"{name}/{volume.name}" for name in volumes for volume in volumes[name]], shard)
    refused = zip(result.refused, result.refused_volumes, strict=True)
    update_ledger(folder, "slice", tried, {f"{r.domain}/{volume.name}": r.reason for r, volume in refused})
    print(f"{len(result.sliced)} sliced, {len(result.finished)} unchanged, {len(result.refused)} refused")
    return 1 if result.refused else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[cluster_options()]
    )
    parser.add_argument("study", help="the folder of the study, created if it does not exist")
    parser.add_argument(
        "--domain", action="append", nargs="+", required=True, metavar="WORD", help="NAME FOLDER [ENTITY=VALUE ...]"
    )
    parser.add_argument("--config", default="default", help="a shipped configuration, or a YAML file")
    parser.add_argument("--split-file", help="CSV with the columns case, patient, split")
    parser.add_argument("--keep-missing", action="store_true", help="keep the slices of volumes that are gone")
    parser.add_argument(
        "--found", type=Path, metavar="FILE", help="list of the volumes, which --cluster writes for its jobs"
    )
    parser.add_argument("--workers", type=int, default=1, help="number of processes per shard")
    arguments = parser.parse_args()
    if any(len(words) < 2 for words in arguments.domain):
        parser.error("--domain requires a name and a folder")
    return arguments


if __name__ == "__main__":
    sys.exit(run_script(main))
