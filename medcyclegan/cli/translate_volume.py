"""``medcyclegan translate-volume``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import Command, device_option, reading_arguments, reading_options, synthetic_option


@click.command("translate-volume", cls=Command)
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
@click.option(
    "--model",
    multiple=True,
    default=["runs/latest/model"],
    show_default=True,
    metavar="DIR",
    help="The model folder; several give their mean.",
)
@click.option("--to", metavar="DOMAIN", help="The domain to translate to.  [default: the model's second]")
@device_option
@click.option("--batch-size", default="auto", show_default=True, metavar="N|auto", help="Slices at a time.")
@click.option("--fast", is_flag=True, help="Compute in bf16 where the device has it; how far that is off is said.")
@click.option(
    "--backend",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="onnx: compute by ONNX Runtime (extra onnx); --model may then be what export --format onnx wrote.",
)
@click.option("--tta", is_flag=True, help="Translate mirrored slices too, and take the mean: twice the time.")
@click.option(
    "--planes",
    type=click.Choice(["axial", "three"]),
    default="axial",
    show_default=True,
    help="three: also along coronal and sagittal slices, and take the median.",
)
@click.option(
    "--dicom-template",
    metavar="DIR",
    help="The DICOM series whose patient and study a DICOM OUT belongs to, where IN is not DICOM.",
)
@click.option("--deidentify", is_flag=True, help="Leave patient, study and dates out of a DICOM OUT (extra deid).")
@click.option("--uncertainty", metavar="FILE", help="Also write a map of how far each voxel may be off.")
@click.option("--preview", metavar="PNG", help="Also draw input, output and uncertainty map in three planes.")
@click.option("--force", is_flag=True, help="Accept an input of a modality that the model does not know.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@reading_options
@synthetic_option
def command(source: str, output: str, **options: Any) -> None:
    """Translate the volume IN into OUT, on exactly its own grid.

    IN is a NIfTI (or .mha, .nrrd) file, a folder that holds one DICOM series, or a picture. OUT's
    ending says its format; without one it is a folder for a derived DICOM series. Beside OUT a JSON
    file of the same stem tells how it was made.

    OUT may also be a DICOM node, which the series is sent to (extra pacs): dicom://AET@host:port, and
    after it ?calling=AET, &tls=on, &ca=FILE, &cert=FILE, &key=FILE as needed. No file stays here.
    """
    from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file

    batch_size = options["batch_size"]
    computing = InferenceOptions(
        device=options["device"],
        batch_size=int(batch_size) if batch_size.isdecimal() else batch_size,
        **{name: options[name] for name in ("fast", "backend", "tta", "planes")},
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
        reading=reading_arguments(options),
    )
    click.echo(translate_file(source, output, options["model"], chosen))
