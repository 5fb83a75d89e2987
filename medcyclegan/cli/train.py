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
@click.option("--domains", nargs=2, metavar="A B", help="The two domains.  [default: the store's two, sorted]")
@click.option("--out", default="runs", show_default=True, metavar="DIR", help="The folder of runs.")
@click.option("--max-steps", type=click.IntRange(1), metavar="N", help="Train so many steps, not the epochs.")
@click.option(
    "--resume", is_flag=False, flag_value="", metavar="[RUN]", help="Go on with a run.  [default: OUT/latest]"
)
@click.option("--init-from", metavar="MODEL", help="Start with the generators of this model folder.")
@device_option
def command(**options: Any) -> None:
    """Train a CycleGAN on unpaired slices.

    A run is a folder under OUT, and OUT/latest points at the newest: the configuration, losses,
    pictures every 100 steps, checkpoints and, from the first checkpoint on, the model.

    \b
    Long runs can be stopped at any time (SIGTERM, SIGUSR1 or Ctrl-C save first; exit code 1), even
    killed; --resume goes on from the last checkpoint as if nothing had happened.
    """
    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError
    from medcyclegan.training import train

    resume = options["resume"]
    if resume is not None and (options["config"] or options["overrides"]):
        raise UsageError("--resume goes on under the run's own configuration: leave --config and --set out")
    if resume and click.get_current_context().get_parameter_source("out") is ParameterSource.COMMANDLINE:
        raise UsageError(f"--resume {resume} goes on in that folder: leave --out out, or name no run after --resume")
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
    if os.environ.get("RANK", "0") == "0":  # of several processes, the first one speaks
        click.echo(run)
