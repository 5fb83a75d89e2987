"""Translate many volumes with one model into a BIDS derivative dataset of synthetic images.

    python pipelines/translate_cohort.py bids derivatives/synthetic-t2 --model runs/latest/model --to t2 \\
        --select suffix=T1w --cluster slurm --num-shards 50 --job slurm_partition=gpu --job gpus_per_node=1

Each volume is translated once; a second run completes what is missing. Volumes of another modality are skipped.
OUT/ledger.jsonl lists failures and reasons. DICOM series without a BIDS name are numbered by their patients (sub-001).
"""

import argparse
import sys
from pathlib import Path

from medcyclegan.cohort import (
    cluster_options,
    load_found,
    run_on_cluster,
    run_script,
    save_found,
    select_volumes,
    shard_of,
    translate_cohort,
)
from medcyclegan.inference import InferenceOptions, TranslationOptions

#: The name of the only list of volumes.
_ONLY = "source"


def main() -> int:
    """Translate the volumes of this shard; return 1 if any failed."""
    arguments = parse_arguments()
    source = Path(arguments.source)
    volumes = (
        load_found(arguments.found, [_ONLY])[_ONLY] if arguments.found else select_volumes(source, arguments.select)
    )
    if arguments.cluster:
        found = save_found(arguments.logs, {_ONLY: volumes})
        return 1 if run_on_cluster(__file__, more=["--found", found]) else 0
    options = TranslationOptions(
        to=arguments.to,
        computing=InferenceOptions(device=arguments.device, fast=arguments.fast, planes=arguments.planes),
        overwrite=arguments.overwrite,
    )
    done = translate_cohort(source, volumes, Path(arguments.out), arguments.model, options, shard=shard_of(arguments))
    print(done.summary)
    return 1 if done.failed else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[cluster_options()]
    )
    parser.add_argument("source", help="the folder of volumes, or a BIDS dataset")
    parser.add_argument("out", help="the derivative dataset, created if it does not exist")
    parser.add_argument("--model", default="runs/latest/model", help="the model folder")
    parser.add_argument(
        "--to", help="the domain to translate to (default: the model's second, or its first if only that fits)"
    )
    parser.add_argument(
        "--select",
        nargs="+",
        default=[],
        metavar="ENTITY=VALUE",
        help="select volumes by BIDS entities, such as suffix=T1w ses=1",
    )
    parser.add_argument(
        "--found", type=Path, metavar="FILE", help="list of the volumes, which --cluster writes for its jobs"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--fast", action="store_true", help="compute in bf16 if the device supports it")
    parser.add_argument(
        "--planes",
        choices=["axial", "three"],
        default="axial",
        help="three: more consistent between slices, but slower",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace outputs that were made from other inputs or settings"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_script(main))
