"""``medcyclegan import-weights``."""

from __future__ import annotations

import click

from medcyclegan.cli.common import Command, check_paths, config_options


@click.command("import-weights", cls=Command)
@click.argument("g_ab", metavar="G_AB.pth")
@click.argument("g_ba", metavar="G_BA.pth")
@click.option("--domains", nargs=2, metavar="A B", required=True, help="The names of the two domains.")
@click.option(
    "--range",
    "ranges",
    nargs=3,
    type=(str, float, float),
    multiple=True,
    metavar="NAME LOWER UPPER",
    help="The values of a domain (CT: in HU) that map to -1 and 1; can be repeated.",
)
@click.option(
    "--fit",
    type=click.Choice(["physical", "stretch"]),
    help="How slices were resized; see slice-volumes.",
)
@click.option("--size", type=click.IntRange(32), metavar="PIXELS", help="Rows and columns of a slice.  [default: 256]")
@click.option("--pixel-mm", type=float, metavar="MM", help="Pixel size, with --fit physical.")
@config_options
@click.option("--out", required=True, metavar="DIR", help="The model folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing folder.")
def command(
    g_ab: str,
    g_ba: str,
    domains: tuple[str, str],
    ranges: tuple[tuple[str, float, float], ...],
    fit: str | None,
    size: int | None,
    pixel_mm: float | None,
    config: str | None,
    overrides: tuple[str, ...],
    out: str,
    overwrite: bool,
) -> None:
    """Create a model folder from two generators trained with the public PyTorch CycleGAN code.

    In the checkpoints folder of that code they are named latest_net_G_A.pth (A to B) and latest_net_G_B.pth (B to A).
    They must be resnet_6blocks, resnet_9blocks, unet_128 or unet_256 with instance normalization and one channel. The
    options (or --config) supply what the files do not contain: the domains, their value ranges, and how slices were
    prepared.
    """
    from pathlib import Path

    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError

    check_paths(g_ab, g_ba)

    from medcyclegan.model.import_weights import describe_domain, import_generators
    from medcyclegan.plane import Preparation
    from medcyclegan.storage import check_output

    check_output(Path(out), overwrite=overwrite)
    chosen = {"size": size, "fit": fit, "pixel_mm": pixel_mm}
    own_slicing = (f"slicing.{key}={value}" for key, value in chosen.items() if value is not None)
    known = load_config(config or "default", [*overrides, *own_slicing])
    if fit is None and config is None:
        raise UsageError(
            "--fit is missing: physical (one pixel size, --pixel-mm) or stretch (resized, as that code does)"
        )
    if fit == "physical" and pixel_mm is None and config is None:
        raise UsageError("--pixel-mm is missing: give the pixel size in mm of the training slices")
    if fit == "stretch" and pixel_mm is not None:
        raise UsageError("--pixel-mm with --fit stretch: resized slices have no common pixel size: leave it out")
    stray = {name for name, _, _ in ranges} - set(domains)
    if stray:
        raise UsageError(f"--range {min(stray)}: not one of the --domains {' '.join(domains)}")
    own = {name: (lower, upper) for name, lower, upper in ranges}
    a, b = (describe_domain(name, known, own.get(name)) for name in domains)
    preparation = Preparation(known.slicing.size, known.slicing.fit, known.slicing.pixel_mm)
    click.echo(import_generators((g_ab, g_ba), (a, b), preparation).save(out, overwrite=overwrite))
