"""``medcyclegan slice-volumes``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NoReturn

import click

from medcyclegan.cli.common import (
    Command,
    check_paths,
    config_options,
    read_options,
    reading_options,
    shard_options,
    synthetic_option,
)


@click.command("slice-volumes", cls=Command)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--domain", metavar="NAME", help="Every INPUT contains only volumes of this domain.")
@click.option("--out", default="slices", show_default=True, metavar="DIR", help="The slice store to write.")
@config_options
@click.option("--size", type=int, metavar="PIXELS", help="Rows and columns of a slice.  [default: 256]")
@click.option(
    "--fit",
    type=click.Choice(["physical", "stretch"]),
    help="Resample to --pixel-mm and pad or crop, or stretch to --size.",
)
@click.option("--pixel-mm", type=float, metavar="MM", help="Pixel size, with --fit physical.  [default: 1.0]")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="The number format of the stored slices.")
@click.option(
    "--register", is_flag=True, help="Bring volumes of one patient onto one grid, so that they count as pairs."
)
@click.option(
    "--split-file", metavar="CSV", help="Use these splits: columns case, patient, split (train, validation, test)."
)
@click.option(
    "--write-split-file", metavar="CSV", help="Write a split file of all volumes, to be corrected by hand, and exit."
)
@click.option("--keep-missing", is_flag=True, help="Keep the slices of volumes that are no longer in the inputs.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="Number of processes."
)
@shard_options
@reading_options
@synthetic_option
def command(inputs: tuple[str, ...], **options: Any) -> None:
    """Cut volumes into axial slices for training.

    Each INPUT (default: volumes/) is a folder of domains, volumes/<domain>/..., which may contain NIfTI files, DICOM
    folders and images. The folder names trainA, trainB, testA and testB give domain and split. Finished volumes are
    skipped, so the command can be repeated. The slices of volumes that are no longer in the inputs are removed. If
    volumes are refused, the others are still sliced, the reasons are listed, and the exit code is 1.

    --register registers volumes rigidly to that of the same patient in the first domain (in alphabetical order), checks
    the result, and resamples them to its grid in the store. A patient whose registration is refused stays unpaired.

    Patients are identified by --split-file, DICOM PatientID or BIDS sub- labels; otherwise they are guessed from the
    names of folders and files. The guess is printed: check it.
    """
    from medcyclegan.config import load_config
    from medcyclegan.shards import choose_shard

    chosen = {key: options[key] for key in ("size", "fit", "pixel_mm", "dtype")}
    overrides = [f"slicing.{key}={value}" for key, value in chosen.items() if value is not None]
    overrides += ["slicing.registration=true"] if options["register"] else []
    config = load_config(options["config"] or "default", [*options["overrides"], *overrides])
    shard = choose_shard(options["num_shards"], options["shard_id"])
    check_paths(*inputs, remedy="name the folder that holds <domain>/<volumes>")
    check_paths(options["split_file"])

    from medcyclegan.slicing import save_split_file, slice_volumes

    same = {
        "config": config,
        "domain": options["domain"],
        "split_file": options["split_file"],
        "reading": read_options(options),
    }
    if options["write_split_file"] is not None:
        path = options["write_split_file"]
        click.echo(save_split_file(inputs or ("volumes",), path, options["out"], **same))
        return
    result = slice_volumes(
        inputs or ("volumes",),
        options["out"],
        **same,
        keep_missing=options["keep_missing"],
        workers=options["workers"],
        shard=shard,
        allow_synthetic=options["allow_synthetic"],
    )
    click.echo(result.store)
    if result.refused:
        _end_refused(len(result.refused), result.store)


def _end_refused(count: int, folder: Path) -> NoReturn:
    """Print the line that ends a call in which ``count`` volumes were refused, and exit."""
    refused = "1 volume was" if count == 1 else f"{count} volumes were"
    store = "" if folder == Path("slices") else f" {shlex.quote(str(folder))}"
    line = f"Error: {refused} refused for the reasons above; the others are done (medcyclegan slices{store} lists all)"
    click.echo(line, err=True)
    raise click.exceptions.Exit(1)
