"""``medcyclegan translate-volume``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import Command, device_option, reading_arguments, reading_options


@click.command("translate-volume", cls=Command)
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option("--model", default="runs/latest/model", show_default=True, metavar="DIR", help="The model folder.")
@click.option("--to", metavar="DOMAIN", help="The domain to translate to.  [default: the model's second]")
@device_option
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1), help="Slices at a time.")
@click.option(
    "--dicom-template",
    metavar="DIR",
    help="The DICOM series whose patient and study a DICOM OUT belongs to, where IN is not DICOM.",
)
@click.option("--preview", metavar="PNG", help="Also draw input and output in three planes.")
@click.option("--force", is_flag=True, help="Accept an input of a modality that the model does not know.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@reading_options
def command(source: str, output: str, **options: Any) -> None:
    """Translate the volume IN into OUT, on exactly its own grid.

    IN is a NIfTI (or .mha, .nrrd) file, a folder that holds one DICOM series, or a picture. OUT's
    ending says its format; without one it is a folder for a derived DICOM series. Beside OUT a JSON
    file of the same stem tells how it was made.
    """
    from medcyclegan.inference import TranslationOptions, translate_file

    chosen = TranslationOptions(
        to=options["to"],
        device=options["device"],
        batch_size=options["batch_size"],
        force=options["force"],
        preview=options["preview"],
        overwrite=options["overwrite"],
        template=options["dicom_template"],
        reading=reading_arguments(options),
    )
    click.echo(translate_file(source, output, options["model"], chosen))
