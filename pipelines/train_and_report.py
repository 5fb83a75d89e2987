"""Train a model on a prepared study, translate and score its held-out patients, and write two reports.

    python pipelines/train_and_report.py STUDY --config t1-t2 [--to t2] [--cluster slurm --job gpus_per_node=1]

STUDY is a folder that prepare_cohort.py wrote. Results are in ``STUDY/results/<config>/``: ``runs/``, ``model``,
``translated/``, ``evaluation.json`` and the pages ``run.html`` and ``evaluation.html``. A stage is skipped if its
inputs and configuration have not changed, and an interrupted training is resumed.
"""

import argparse
import sys
from pathlib import Path

from medcyclegan.cohort import (
    cluster_options,
    find_study_volumes,
    load_study,
    run_on_cluster,
    run_script,
    run_stage,
    score_held_out,
    score_held_out_sets,
    translate_cohort,
)
from medcyclegan.config import Config, load_config
from medcyclegan.inference import InferenceOptions, TranslationOptions
from medcyclegan.manifest import MANIFEST
from medcyclegan.model import ModelBundle
from medcyclegan.provenance import hash_file, hash_json
from medcyclegan.report import ReportOptions, write_report
from medcyclegan.slicing import HeldOutVolume, find_held_out
from medcyclegan.storage import replace_link
from medcyclegan.training import train


def main() -> int:
    """Run the stages; return 1 if a held-out volume failed."""
    arguments = parse_arguments()
    if arguments.cluster:
        return 1 if run_on_cluster(__file__) else 0
    folder, config = Path(arguments.study), load_config(arguments.config, arguments.set)
    study, results = load_study(folder), folder / "results" / Path(arguments.config).stem
    run = train_or_resume(folder / "slices", config, results, arguments.device)
    replace_link(results / "model", str((run / "model").resolve().relative_to(results.resolve())))
    bundle = ModelBundle.load(run / "model")
    report(results, "run", run, {"model": bundle.fingerprint})

    volumes = find_study_volumes(study)
    held_out = find_held_out(folder / "slices", volumes, keyed_store=study.keyed_store)
    target = arguments.to or bundle.domains[1].name
    source = bundle.direction(target).source
    inputs = [held for held in held_out if held.domain == source.name]
    if not inputs:
        print(f"no patient of {source.name} is held out, so there is nothing to translate and score")
        return 0
    options = TranslationOptions(to=target, computing=InferenceOptions(device=arguments.device), overwrite=True)
    done = translate_cohort(
        study.domains[source.name].folder, [held.found for held in inputs], results / "translated", bundle, options
    )
    scored = {"model": bundle.fingerprint, "to": target, "cases": [held.found.name for held in held_out]}
    table = run_stage(results, "evaluate", scored, lambda: evaluate(held_out, results, target, bundle))
    if table.name == "evaluation.json":
        report(results, "evaluation", table, scored)
    print(f"{results}: {done.summary}")
    return 1 if done.failed else 0


def train_or_resume(slices: Path, config: Config, results: Path, device: str) -> Path:
    """Start or resume the run of these slices and this configuration, and return it when finished."""
    made_of = hash_json({"slices": hash_file(slices / MANIFEST), "config": config.model_dump(mode="json")})
    runs = results / "runs" / made_of[:12]
    if (runs / "latest").exists():
        return train(slices, resume=runs / "latest", device=device)
    return train(slices, config=config, out=runs, device=device)


def evaluate(held_out: list[HeldOutVolume], results: Path, target: str, bundle: ModelBundle) -> Path:
    """Score the translations if patients have both images, else compare the sets; return the table."""
    if score_held_out(held_out, results / "translated", target, results / "evaluation.json"):
        return results / "evaluation.json"
    score_held_out_sets(held_out, results / "translated", target, results / "distances.json", bundle)
    return results / "distances.json"


def report(results: Path, name: str, about: Path, inputs: dict) -> Path:
    """Write a page if its subject has changed."""
    options = ReportOptions(out=results / f"{name}.html", overwrite=True)
    return run_stage(results, f"report-{name}", inputs, lambda: write_report(about, options))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[cluster_options()]
    )
    parser.add_argument("study", help="a folder that prepare_cohort.py wrote")
    parser.add_argument("--config", default="default", help="a shipped configuration, or a YAML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override one value of the configuration; can be repeated",
    )
    parser.add_argument("--to", help="the domain to translate to (default: the second)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_script(main))
