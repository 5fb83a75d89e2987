"""``medcyclegan demo``."""

from __future__ import annotations

import click

from medcyclegan.cli.common import Command, config_options, device_option


@click.command("demo", cls=Command)
@click.option("--out", default="demo", show_default=True, metavar="DIR", help="The folder to write.")
@click.option("--heads", nargs=2, type=click.IntRange(1), default=(12, 2), show_default=True, metavar="N M",
              help="Number of synthetic heads: N of each contrast to train on, M to test on.")  # fmt: skip
@config_options
@device_option
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier demo.")
def command(out: str, heads: tuple[int, int], config: str, overrides: tuple[str, ...], **options: str) -> None:
    """Run the whole workflow on synthetic heads, in minutes on a CPU.

    Writes T1 heads as NIfTI files and T2 heads of other subjects as DICOM series, slices them, trains a
    small CycleGAN, translates unseen heads, and compares the translations with the true T2, next to those of
    the shipped model head-t1-t2. Prints a table of scores, and writes a picture of input, translations, truth
    and error to DIR/demo.png. Run the same command again to continue after an interruption.
    """
    from medcyclegan.config import load_config
    from medcyclegan.demo import run_demo

    result = run_demo(
        out,
        config=load_config(config or "demo", overrides),
        heads=heads,
        device=options["device"],
        overwrite=bool(options["overwrite"]),
    )
    click.echo(result.table())
    click.echo(result.picture)
