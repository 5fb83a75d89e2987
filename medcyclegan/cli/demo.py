"""``medcyclegan demo``."""

from __future__ import annotations

import click

from medcyclegan.cli.common import Command, config_options, device_option


@click.command("demo", cls=Command)
@click.option("--out", default="demo", show_default=True, metavar="DIR", help="The folder of the demo.")
@click.option("--heads", nargs=2, type=click.IntRange(1), default=(12, 2), show_default=True, metavar="N M",
              help="Made heads of each contrast to train on, and unseen ones to test on.")  # fmt: skip
@config_options
@device_option
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier demo.")
def command(out: str, heads: tuple[int, int], config: str, overrides: tuple[str, ...], **options: str) -> None:
    """Do the whole job on made heads, on a CPU, in minutes.

    T1 heads are written as NIfTI and T2 heads, of other subjects, as DICOM; they are sliced, a small
    CycleGAN is trained, heads it never saw are translated and compared with their true T2. Prints a
    table; the picture is DIR/demo.png: input, fake, truth and error.
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
