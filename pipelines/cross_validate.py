"""Cross-validate with k folds by patient: each patient is scored by a model that was not trained on that patient.

    python pipelines/cross_validate.py STUDY --folds 5 --config t1-t2 [--cluster slurm --num-shards 5]

STUDY is a folder that prepare_cohort.py wrote. Each fold is a separate study in ``STUDY/folds/<k>-<n>/``, on which
train_and_report.py is run. The scores of all folds are merged into ``STUDY/results/<config>-folds-<n>.json`` and its
page, and are printed with those of their baselines and statistics over patients. A second run completes what is
missing. Shards divide the folds among them.
"""

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

from medcyclegan.cohort import (
    cluster_options,
    load_study,
    run_on_cluster,
    run_script,
    run_stage,
    save_study,
    shard_of,
    update_ledger,
)
from medcyclegan.evaluation import merge_tables, rows_to_text
from medcyclegan.manifest import MANIFEST
from medcyclegan.provenance import hash_file
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.shards import share_of
from medcyclegan.slicing import save_fold

STEP = Path(__file__).with_name("train_and_report.py")


def main() -> int:
    """Prepare the folds, run those of this shard (or all, as jobs), and merge their scores; return 1 if any failed."""
    arguments, rest = parse_arguments()
    folder = Path(arguments.study)
    folds = [prepare_fold(folder, number, arguments.folds) for number in range(arguments.folds)]
    own = []
    if arguments.cluster:
        failed = run_on_cluster(__file__)
    else:
        own = list(share_of(folds, shard_of(arguments)))
        command = [sys.executable, str(STEP), "--config", arguments.config, *rest]
        codes = {fold.name: subprocess.run([*command, str(fold)], check=False).returncode for fold in own}
        reasons = {name: f"train_and_report.py ended with exit code {code}" for name, code in codes.items() if code}
        update_ledger(folder, "cross-validate", codes, reasons)
        failed = len(reasons)
    done = set() if failed else {fold.name for fold in own}
    bring_together(folder, folds, Path(arguments.config).stem, done)
    return 1 if failed else 0


def bring_together(folder: Path, folds: list[Path], name: str, done: set[str]) -> None:
    """Write the table of all folds and its page once all folds, those ``done`` here and in other shards, have ended."""
    results = {fold.name: fold / "results" / name for fold in folds}
    tables = {fold: path / "evaluation.json" for fold, path in results.items() if (path / "evaluation.json").exists()}
    unscored = [fold for fold, path in results.items()
                if fold not in tables and (fold in done or (path / "distances.json").exists())]  # fmt: skip
    if len(tables) + len(unscored) < len(folds):
        return
    if unscored:
        print(f"in fold {', '.join(unscored)}, no held-out patient has both images: not in the table")
    if tables:
        out = folder / "results" / f"{name}-folds-{len(folds)}.json"
        print(rows_to_text(merge_tables(list(tables.values()), out)))
        print(write_report(out, ReportOptions(out=out.with_suffix(".html"), overwrite=True)))


def prepare_fold(folder: Path, number: int, count: int) -> Path:
    """Return the study of one fold: the same slices with another split."""
    study, fold = load_study(folder), folder / "folds" / f"{number + 1}-{count}"
    inputs = {"slices": hash_file(folder / "slices" / MANIFEST), "fold": number, "folds": count}
    save_study(fold, dataclasses.replace(study, keyed_store=folder / "slices"))
    run_stage(
        fold, "fold", inputs,
        lambda: save_fold(folder / "slices", fold / "slices", fold=number, folds=count, overwrite=True),
    )  # fmt: skip
    return fold


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; also return the arguments for train_and_report.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[cluster_options()],
        epilog="Other options are passed to train_and_report.py.",
    )  # fmt: skip
    parser.add_argument("study", help="a folder that prepare_cohort.py wrote")
    parser.add_argument("--folds", type=int, default=5, help="number of folds (default: 5)")
    parser.add_argument("--config", default="default", help="a shipped configuration, or a YAML file")
    return parser.parse_known_args()


if __name__ == "__main__":
    sys.exit(run_script(main))
