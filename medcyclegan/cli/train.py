"""``medcyclegan train``."""

from __future__ import annotations

import os
from typing import Any

import click
from click.core import ParameterSource

from medcyclegan.cli.common import Command, config_options, device_option


@click.command("train", cls=Command)
@config_options
@click.option("--slices", metavar="DIR", help="The slice store.  [default: slices]")
@click.option("--domains", nargs=2, metavar="A B", help="The two domains.  [default: the two in the store, sorted]")
@click.option("--out", default="runs", show_default=True, metavar="DIR", help="The folder of runs.")
@click.option(
    "--max-steps", type=click.IntRange(1), metavar="N", help="Train for N steps instead of the configured epochs."
)
@click.option("--resume", is_flag=False, flag_value="", metavar="[RUN]", help="Continue a run.  [default: OUT/latest]")
@click.option("--init-from", metavar="MODEL", help="Start from the generators of this model folder or shipped model.")
@device_option
def command(**options: Any) -> None:
    """Train a CycleGAN on unpaired slices.

    Every run is written to a new folder in --out: configuration, losses, example images, checkpoints and, from the
    first checkpoint on, the model. The link "latest" points to the newest run.

    A run can be stopped at any time: SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint first (exit code 1).
    After that, or after a crash, --resume continues from the last checkpoint as if the run had not
    been interrupted.
    """
    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError
    from medcyclegan.training import train

    resume = options["resume"]
    if resume is not None and (options["config"] or options["overrides"]):
        raise UsageError("--resume uses the configuration of the run: leave --config and --set out")
    if resume and click.get_current_context().get_parameter_source("out") is ParameterSource.COMMANDLINE:
        raise UsageError(f"--resume {resume} writes to that folder: leave --out out, or use --resume without a run")
    config = None if resume is not None else load_config(options["config"] or "default", options["overrides"])
    run = train(
        options["slices"],
        config=config,
        domains=options["domains"],
        out=options["out"],
        max_steps=options["max_steps"],
        device=options["device"],
        resume=True if resume == "" else resume,
        init_from=options["init_from"],
    )
    if os.environ.get("RANK", "0") == "0":  # only the first of several processes prints
        click.echo(run)
