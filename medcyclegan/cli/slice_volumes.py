"""``medcyclegan slice-volumes``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import (
    Command,
    config_options,
    reading_arguments,
    reading_options,
    shard_options,
    synthetic_option,
)


@click.command("slice-volumes", cls=Command)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--domain", metavar="NAME", help="Each INPUT holds this one domain's volumes.")
@click.option("--out", default="slices", show_default=True, metavar="DIR", help="The slice store.")
@config_options
@click.option("--size", type=int, metavar="PIXELS", help="Rows and columns of a slice.  [default: 256]")
@click.option("--fit", type=click.Choice(["physical", "stretch"]), help="One pixel size, or one width.")
@click.option("--pixel-mm", type=float, metavar="MM", help="Pixel size of --fit physical.  [default: 1.0]")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="The store's number format.")
@click.option("--split-file", metavar="CSV", help="Columns case, patient, split (train, validation, test).")
@click.option("--write-split-file", metavar="CSV", help="Write a split file of all volumes to correct, and stop.")
@click.option("--keep-missing", is_flag=True, help="Keep the slices of volumes that are gone from the inputs.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Ranks.")
@shard_options
@reading_options
@synthetic_option
def command(inputs: tuple[str, ...], **options: Any) -> None:
    """Cut axial slices out of volumes, for training.

    Each INPUT (default: volumes/) is a folder of domains, volumes/<domain>/..., in which NIfTI files,
    DICOM folders and pictures may be mixed; trainA trainB testA testB are taken as such. Finished
    volumes are skipped, so the command can be repeated; the slices of volumes that are gone from the
    inputs are removed. A volume that is refused does not stop the others; the reasons are listed, and
    the exit code is 1.

    Patients are told apart by --split-file, DICOM PatientID, BIDS sub- labels, else guessed from folders
    and names. The guess is listed: check it.
    """
    from medcyclegan.config import load_config
    from medcyclegan.shards import choose_shard
    from medcyclegan.slicing import save_split_file, slice_volumes

    chosen = {
        "size": options["size"],
        "fit": options["fit"],
        "pixel_mm": options["pixel_mm"],
        "dtype": options["dtype"],
    }
    overrides = [f"slicing.{key}={value}" for key, value in chosen.items() if value is not None]
    config = load_config(options["config"] or "default", [*options["overrides"], *overrides])
    shard = choose_shard(options["num_shards"], options["shard_id"])
    same = {"config": config, "domain": options["domain"], "split_file": options["split_file"]}
    if options["write_split_file"] is not None:
        path = options["write_split_file"]
        click.echo(save_split_file(inputs or ("volumes",), path, options["out"], **same, **reading_arguments(options)))
        return
    result = slice_volumes(
        inputs or ("volumes",),
        options["out"],
        **same,
        keep_missing=options["keep_missing"],
        workers=options["workers"],
        shard=shard,
        **reading_arguments(options),
    )
    click.echo(result.store)
    if result.refused:
        count = "1 volume was" if len(result.refused) == 1 else f"{len(result.refused)} volumes were"
        click.echo(f"Error: {count} refused, for the reasons above; the others are done", err=True)
        raise click.exceptions.Exit(1)
