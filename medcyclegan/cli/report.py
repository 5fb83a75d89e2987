"""``medcyclegan report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from medcyclegan.cli.common import Command, check_paths, read_options, reading_options


@click.command("report", cls=Command)
@click.argument("target", default="runs/latest", metavar="[RUN|TABLE|VOLUME]")
@click.option(
    "--out", metavar="HTML", help="The page to write.  [default: next to TABLE or VOLUME, or RUN/report.html]"
)
@click.option("--input", "source", metavar="IN", help="For a translation: the volume that was translated.")
@click.option("--reference", metavar="REF", help="For a translation: a true image of the same patient.")
@click.option(
    "--uncertainty", metavar="MAP", help="For a translation: the map written by translate-volume --uncertainty."
)
@click.option("--names", is_flag=True, help="For a table: show the names of the cases, which may identify patients.")
@click.option(
    "--exact",
    is_flag=True,
    help="For a translation: store exact voxels; by default they are rounded in steps that the noise hides.",
)
@click.option("--embed-mb", type=click.FloatRange(0), metavar="MB",
              help="For a translation: store voxels beyond MB in separate files.  [default: 60]")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing page.")
@reading_options
def command(target: str, **options: Any) -> None:
    """Write a web page about a training run, a table of scores, or a translated volume.

    The page needs no network and no server. RUN is a folder in runs/ (default: runs/latest), TABLE a file written by
    evaluate --out, VOLUME an output of translate-volume. The page of a volume has an interactive viewer, and with
    --reference the scores of the translation.
    """
    check_paths(target, remedy="name a run, a table or a volume")
    check_paths(*(options[name] for name in ("source", "reference", "uncertainty")))

    from medcyclegan.report import ReportOptions, write_report

    paths = {name: Path(options[name]) if options[name] is not None else None for name in _PATHS}
    chosen = ReportOptions(
        **paths,
        names=options["names"],
        exact=options["exact"],
        embedded_mb=options["embed_mb"],
        overwrite=options["overwrite"],
        reading=read_options(options),
    )
    click.echo(write_report(Path(target), chosen))


_PATHS = ("out", "source", "reference", "uncertainty")
