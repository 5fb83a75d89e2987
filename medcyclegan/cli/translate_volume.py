"""``medcyclegan translate-volume``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import (
    Command,
    check_models,
    check_paths,
    device_option,
    read_options,
    reading_options,
    synthetic_option,
)
from medcyclegan.model.shipped import DEFAULT_MODEL


def _batch_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    """Return a number of slices, or ``auto``."""
    if value == "auto":
        return value
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r}: use a whole number from 1 on, or auto")
    return int(value)


@click.command("translate-volume", cls=Command)
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option(
    "--model",
    multiple=True,
    default=[DEFAULT_MODEL],
    show_default=True,
    metavar="DIR|NAME",
    help="The model folder, or the name of a shipped model; repeat it to average the outputs of several models.",
)
@click.option(
    "--to",
    metavar="DOMAIN",
    help="The domain to translate to.  [default: the second one, or the first if IN fits only the second]",
)
@device_option
@click.option(
    "--batch-size", default="auto", show_default=True, metavar="N|auto", callback=_batch_size, help="Slices per batch."
)
@click.option("--fast", is_flag=True, help="Compute in bf16 if the device supports it, and report the resulting error.")
@click.option(
    "--backend",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="onnx: compute with ONNX Runtime (extra onnx); --model may be a folder written by export --format onnx.",
)
@click.option(
    "--tta", is_flag=True, help="Also translate mirrored slices, and average the results; takes twice as long."
)
@click.option(
    "--planes",
    type=click.Choice(["axial", "three"]),
    default="axial",
    show_default=True,
    help="three: also translate coronal and sagittal slices, and take the median; takes several times as long.",
)
@click.option(
    "--dicom-template",
    metavar="DIR",
    help="For DICOM output from an IN that is not DICOM: the series whose patient and study are copied.",
)
@click.option("--deidentify", is_flag=True, help="Remove patient, study and dates from DICOM output (extra deid).")
@click.option("--uncertainty", metavar="FILE", help="Also write a map of the uncertainty of each voxel.")
@click.option(
    "--preview", metavar="PNG", help="Also write a picture of input, output and uncertainty map in three planes."
)
@click.option("--force", is_flag=True, help="Accept an input whose modality the model was not trained on.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@reading_options
@synthetic_option
def command(source: str, output: str, **options: Any) -> None:
    """Translate the volume IN and write the result to OUT, on the same grid as IN.

    IN is a file, such as a NIfTI volume or an image, or a folder with one DICOM series. The file extension of OUT
    determines its format; without an extension, OUT is a folder for a derived DICOM series. A JSON file next to OUT,
    with the same stem, records how OUT was made.

    OUT can also be a DICOM node to which the series is sent (extra pacs): dicom://AET@host:port,
    followed by ?calling=AET, &tls=on, &ca=FILE, &cert=FILE, &key=FILE as needed. No local file is kept.
    """
    check_paths(source, options["dicom_template"])
    check_models(*options["model"])

    from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file

    computing = InferenceOptions(
        device=options["device"],
        **{name: options[name] for name in ("batch_size", "fast", "backend", "tta", "planes")},
    )
    chosen = TranslationOptions(
        to=options["to"],
        computing=computing,
        force=options["force"],
        uncertainty=options["uncertainty"],
        preview=options["preview"],
        overwrite=options["overwrite"],
        template=options["dicom_template"],
        deidentify=options["deidentify"],
        reading=read_options(options),
        allow_synthetic=options["allow_synthetic"],
    )
    click.echo(translate_file(source, output, options["model"], chosen))
