"""``medcyclegan export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medcyclegan.cli.common import Command, check_models, check_paths, read_options, reading_options
from medcyclegan.model.shipped import DEFAULT_MODEL


@click.command("export", cls=Command)
@click.option(
    "--format", "form", type=click.Choice(["onnx", "monai-bundle"]), required=True, help="The format to write."
)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="DIR|NAME",
    help="The model folder, or a shipped model.",
)
@click.option("--out", metavar="DIR", help="The folder to write.  [default: onnx or monai-bundle]")
@click.option("--compare", metavar="IN", help="onnx: compare with PyTorch on slices of this volume instead of noise.")
@click.option("--overwrite", is_flag=True, help="Replace an existing folder.")
@reading_options
def command(form: str, model: str, out: str | None, compare: str | None, overwrite: bool, **options: Any) -> None:
    """Export a model for other programs, as ONNX graphs or as a MONAI bundle.

    onnx: two graphs for any batch size and image size, whose metadata describe the preparation and scaling of slices.
    Prints how much their outputs differ from PyTorch's. monai-bundle: a folder for python -m monai.bundle run.
    """
    from medcyclegan.errors import UsageError

    check_paths(compare)
    check_models(model)

    from medcyclegan.export import export_monai_bundle, export_onnx
    from medcyclegan.io import read_with_options
    from medcyclegan.model import ModelBundle

    folder, reading = out or form, read_options(options)
    if compare is None and reading.given():
        raise UsageError("reading options apply to the volume of --compare only: add --compare, or leave them out")
    if form == "monai-bundle":
        if compare is not None:
            raise UsageError("--compare is only for --format onnx: leave it out")
        click.echo(export_monai_bundle(ModelBundle.load(model), folder, overwrite=overwrite))
        return
    real = None if compare is None else read_with_options(Path(compare), reading)
    parity = export_onnx(ModelBundle.load(model), folder, volume=real, overwrite=overwrite)
    click.echo(folder)
    for direction in parity:
        click.echo(direction)
