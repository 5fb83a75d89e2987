"""Many volumes, one model: a BIDS derivative data set of synthetic images.

    python pipelines/translate_cohort.py bids derivatives/synthetic-t2 --model runs/latest/model --to t2 \\
        --select suffix=T1w --cluster slurm --num-shards 50 --job slurm_partition=gpu --job gpus_per_node=1

Each volume is done once: a rerun does what is missing. What failed is in OUT/ledger.jsonl, with its reason.
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

#: The name of the one list of volumes.
_ONLY = "source"


def main() -> int:
    """Translate this shard's volumes; 1 where any failed."""
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
    print(f"{len(done.made)} translated, {len(done.stood)} stood, {len(done.failed)} failed")
    return 1 if done.failed else 0


def parse_arguments() -> argparse.Namespace:
    """Return the command line's values."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[cluster_options()]
    )
    parser.add_argument("source", help="the folder of volumes, or a BIDS data set")
    parser.add_argument("out", help="the derivative data set, made where it is missing")
    parser.add_argument("--model", default="runs/latest/model", help="the model folder")
    parser.add_argument("--to", help="the domain to translate to (the model's second by default)")
    parser.add_argument("--select", nargs="+", default=[], metavar="ENTITY=VALUE", help="such as suffix=T1w ses=1")
    parser.add_argument("--found", type=Path, metavar="FILE", help="the volumes, as --cluster lists them for its jobs")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--fast", action="store_true", help="compute in bf16 where the device has it")
    parser.add_argument("--planes", choices=["axial", "three"], default="axial", help="three: steadier, slower")
    parser.add_argument("--overwrite", action="store_true", help="replace what was made another way")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_script(main))
