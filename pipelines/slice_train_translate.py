"""Run all steps in one workspace: slice volumes, train a model, translate volumes.

    python pipelines/slice_train_translate.py WORKSPACE [--config smoke] [--to DOMAIN]

WORKSPACE contains ``volumes/<domain>/...`` for two domains. The script adds ``slices/``, ``runs/`` and
``translated/``, with the translation of every volume of the source domain. Finished stages are skipped,
so the command can be repeated after an interruption. If a volume is refused, it is reported and the
others are still translated.
"""

import argparse
import sys
from pathlib import Path

from medcyclegan.config import load_config
from medcyclegan.errors import MedCycleGANError
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.io import ReadOptions, find_volumes
from medcyclegan.model import ModelBundle
from medcyclegan.slicing import slice_volumes
from medcyclegan.training import train


def main() -> int:
    """Run the stages; return 1 if any volume failed."""
    arguments = parse_arguments()
    workspace, config = Path(arguments.workspace), load_config(arguments.config)
    sliced = slice_volumes(workspace / "volumes", workspace / "slices", config=config, workers=arguments.workers)
    latest = workspace / "runs" / "latest"
    resume = latest if latest.exists() else None
    run = train(workspace / "slices", config=None if resume else config, out=workspace / "runs", resume=resume)
    bundle = ModelBundle.load(run / "model")
    a, b = bundle.domains
    target = arguments.to or b.name
    source = a.name if target == b.name else b.name
    failed = list(sliced.refused)
    for found in find_volumes(workspace / "volumes" / source, ReadOptions()):
        output = workspace / "translated" / target / f"{found.name.replace('/', '_')}.nii.gz"
        if output.exists():
            continue
        reading = ReadOptions(series=found.series_uid)
        try:
            print(translate_file(found.path, output, run / "model", TranslationOptions(to=target, reading=reading)))
        except MedCycleGANError as error:
            print(f"{found.path}: {error}", file=sys.stderr)
            failed.append(error)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", help="the folder that contains volumes/<domain>/...")
    parser.add_argument("--config", default="default", help="a shipped configuration, or a YAML file")
    parser.add_argument("--to", help="the domain to translate to (default: the second)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes for slicing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
