"""``medcyclegan evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medcyclegan.cli.common import Command, check_models, check_paths, read_options, reading_options, shard_options

_PATHS = ("pairs", "mask", "save_mask", "source", "model", "compare", "target", "out")


@click.command("evaluate", cls=Command)
@click.argument("fake", required=False, metavar="FAKE")
@click.argument("reference", required=False, metavar="REFERENCE")
@click.option(
    "--pairs",
    metavar="CSV",
    help="Score the pairs of this table: columns fake, reference; optional: case, patient, input, mask, "
    "target, organ:NAME.",
)
@click.option("--mask", metavar="MASK", help="Score inside this mask.  [default: computed from the reference]")
@click.option("--save-mask", metavar="FILE|DIR", help="Write the mask that was used.")
@click.option("--input", "--baseline", "source", metavar="IN", help="The input of the translation, for the baselines.")
@click.option(
    "--model", metavar="MODEL", help="The model whose baseline in HU is used.  [default: from the JSON file of FAKE]"
)
@click.option(
    "--modality", type=click.Choice(["CT", "MR"]), help="The modality of the reference; overrides its header."
)
@click.option("--register", type=click.Choice(["rigid"]), help="Align the two scans before scoring.")
@click.option(
    "--compare", metavar="FAKES|CSV|TABLE", help="Another model's outputs or table of scores, for a paired test."
)
@click.option("--dose", is_flag=True, help="Recalculate a photon and a proton plan of REFERENCE on FAKE (extra dose).")
@click.option(
    "--target", metavar="MASK", help="With --dose: the target.  [default: a sphere of 15 mm radius in the upper head]"
)
@click.option(
    "--organ", "organs", multiple=True, metavar="NAME=MASK", help="With --dose: an organ at risk, reported; repeatable."
)
@click.option("--unpaired", is_flag=True, help="Compare the distributions of two unpaired sets.")
@click.option(
    "--features", nargs=2, metavar="NPY NPY", help="With --unpaired: features (N, D) of both sets, for the FID."
)
@click.option("--out", metavar="FILE", help="Write the table (.csv or .json), and pictures next to it.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per case.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@shard_options
@reading_options
def command(fake: str | None, reference: str | None, **options: Any) -> None:
    """Score translations against references of the same patients, inside a mask, with the metrics of SynthRAD.

    FAKE and REFERENCE are volumes, or folders of volumes that are matched by name or by BIDS entities. Volumes on
    another grid are resampled to the grid of the reference. --series, --split-by and --volume apply to REFERENCE.

    The scores of baselines are printed with every score. For MR outputs, the baseline is the input (--input) taken as
    the output. For outputs in HU, they are the best constant, water, and the mean CT number of each tissue class of the
    input in the model's training set. Means are over patients; with 10 patients or more, they have confidence
    intervals.

    --compare takes a folder of another model's volumes, a CSV of its pairs (as for --pairs), or a table that --out
    wrote for it; cases are matched by name.

    --dose plans 60 Gy on REFERENCE, a CT, with photons and with protons, and calculates both plans again on FAKE, which
    is on the same grid, and on the baselines: gamma pass rates (2 %, 2 mm) and doses of the target and of organs.
    """
    from medcyclegan.errors import UsageError

    if options["pairs"] is None or fake is None:  # a contradiction is reported first
        check_paths(fake, reference, *(options[name] for name in ("pairs", "mask", "source", "compare", "target")))
    organs = _organs(options["organs"])
    check_paths(*organs.values())
    check_models(options["model"])

    from medcyclegan.evaluation import evaluate_files, evaluate_unpaired_files, to_json, to_text

    request = _request(fake, reference, organs, options)
    if options["unpaired"]:
        features = options["features"]
        result = evaluate_unpaired_files(request, (Path(features[0]), Path(features[1])) if features else None)
        click.echo(to_json(result, indent=None if options["as_json"] else 2))
        return
    if options["features"]:
        raise UsageError("--features: feature vectors compare unpaired sets: add --unpaired, or leave out --features")

    def echo_case(scores: Any) -> None:
        click.echo(to_json(scores.to_dict()))

    done = evaluate_files(request, echo_case if options["as_json"] else None)
    if not options["as_json"]:
        click.echo(to_text(done.cases, done.comparison))
    if done.refused:
        click.echo(f"Error: {len(done.refused)} cases were refused for the reasons above", err=True)
        raise click.exceptions.Exit(1)


def _organs(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the path of each organ's mask from texts NAME=MASK."""
    from medcyclegan.errors import UsageError

    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--organ {text}: write a name and a mask: --organ brainstem=brainstem.nii.gz")
        if name in found:
            raise UsageError(f"--organ {text}: {name} is given twice: name each organ once")
        found[name] = path
    return found


def _request(fake: str | None, reference: str | None, organs: dict[str, str], options: dict[str, Any]) -> Any:
    """Return the :class:`~medcyclegan.evaluation.EvaluationRequest` of the options."""
    from medcyclegan.evaluation import EvaluationRequest
    from medcyclegan.shards import choose_shard

    return EvaluationRequest(
        **{name: Path(options[name]) if options[name] is not None else None for name in _PATHS},
        fake=Path(fake) if fake is not None else None,
        reference=Path(reference) if reference is not None else None,
        modality=options["modality"],
        register=options["register"],
        dose=options["dose"],
        organs={name: Path(path) for name, path in organs.items()},
        overwrite=options["overwrite"],
        shard=choose_shard(options["num_shards"], options["shard_id"]),
        reading=read_options(options),
    )
