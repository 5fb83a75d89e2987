"""``medcyclegan calibrate``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import Command, device_option, read_options, reading_options


@click.command("calibrate", cls=Command)
@click.argument("model", metavar="MODEL")
@click.option("--cases", required=True, metavar="CSV|DIR", help="Patients with ground truth (see above).")
@click.option("--to", metavar="DOMAIN", help="Calibrate only the translation to this domain.")
@click.option("--tta", is_flag=True, help="Calibrate translations with translate-volume --tta.")
@click.option(
    "--planes",
    type=click.Choice(["axial", "three"]),
    default="axial",
    show_default=True,
    help="Calibrate translations with translate-volume --planes.",
)
@click.option("--register", type=click.Choice(["rigid"]), help="Align the truth to the input.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=900,
    show_default=True,
    metavar="N",
    help="Steps of fitting the network that predicts the error.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Random seed of split and fit."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing calibration.")
@device_option
@reading_options
def command(model: str, cases: str, **options: Any) -> None:
    """Calibrate the prediction intervals of MODEL, a model folder, on patients with ground truth.

    Then translate-volume --uncertainty writes intervals that contain the true value of 90 % of the voxels, and reports
    the error to expect. --cases is a CSV with the columns input and reference (optional: case, patient), or a folder
    with a subfolder for each of the model's domains, as synthesize writes, in which volumes are matched by name or by
    BIDS entities. Patients must not be those that the model was trained on.

    Three in ten patients, chosen at random, are used to fit a small network that predicts the error, and the others to
    measure how far errors exceed it (split conformal prediction over patients). At least 14 patients are needed, and
    28 for --coverage 0.95. The result is stored in MODEL as calibration_AB.safetensors or calibration_BA.safetensors.
    """
    from medcyclegan.evaluation import CalibrationOptions, calibrate_model
    from medcyclegan.inference import InferenceOptions

    chosen = CalibrationOptions(
        to=options["to"],
        computing=InferenceOptions(device=options["device"], tta=options["tta"], planes=options["planes"]),
        register=options["register"] is not None,
        steps=options["steps"],
        seed=options["seed"],
        overwrite=options["overwrite"],
        reading=read_options(options),
    )
    for file in calibrate_model(model, cases, chosen):
        click.echo(file)
