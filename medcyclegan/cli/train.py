"""``medcyclegan train``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import (
    Command,
    check_models,
    check_paths,
    config_options,
    device_option,
    print_run,
    training_arguments,
    training_options,
)


@click.command("train", cls=Command)
@config_options
@click.option("--slices", metavar="DIR", help="The slice store.  [default: slices]")
@click.option("--domains", nargs=2, metavar="A B", help="The two domains.  [default: the two in the store, sorted]")
@training_options
@device_option
def command(**options: Any) -> None:
    """Train a CycleGAN on unpaired slices.

    Every run is written to a new folder in --out: configuration, losses, example images, checkpoints and, from the
    first checkpoint on, the model. The link "latest" points to the newest run.

    A run can be stopped at any time: SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint first (exit code 1).
    After that, or after a crash, --resume continues from the last checkpoint as if the run had not
    been interrupted.
    """
    from pathlib import Path

    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError
    from medcyclegan.manifest import check_store

    resume, arguments = options["resume"], training_arguments(options)
    if resume is not None and (options["config"] or options["overrides"]):
        raise UsageError("--resume uses the configuration of the run: leave --config and --set out")
    config = None if resume is not None else load_config(options["config"] or "default", options["overrides"])
    if resume is None or options["slices"]:
        check_store(Path(options["slices"] or "slices"))
    check_paths(resume or None, remedy="name the folder of a run")
    check_models(options["init_from"])

    from medcyclegan.training import train

    run = train(options["slices"], config=config, domains=options["domains"], **arguments)
    print_run(run)
