"""``medcyclegan train``."""

from __future__ import annotations

from pathlib import Path
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
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Train with N seeds for a quarter of the steps and continue with the best.  [default: 1]",
)
@device_option
def command(**options: Any) -> None:
    """Train a CycleGAN on unpaired slices.

    Without --config: if a shipped model fits the slices, training continues that model (configuration "cpu");
    otherwise it trains from scratch (configuration "default"), as with --init-from none. With --config, only "cpu"
    looks for such a model.

    Every run is written to a new folder in --out: configuration, losses, example images, checkpoints and, from the
    first checkpoint on, the model. The link "latest" points to the newest run.

    A run can be stopped at any time: SIGTERM, SIGUSR1 and Ctrl-C save a checkpoint first (exit code 1).
    After that, or after a crash, --resume continues from the last checkpoint as if the run had not
    been interrupted.
    """

    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError
    from medcyclegan.manifest import check_store

    resume, arguments = options["resume"], training_arguments(options)
    if resume is not None and (options["config"] or options["overrides"]):
        raise UsageError("--resume uses the configuration of the run: leave --config and --set out")
    store = Path(options["slices"] or "slices")
    config = None
    if resume is None:
        config = load_config(options["config"] or "default", options["overrides"])
    if resume is None or options["slices"]:
        check_store(store)
    check_paths(resume or None, remedy="name the folder of a run")
    if arguments["init_from"] not in (None, "auto", "none"):
        check_models(arguments["init_from"])

    from medcyclegan.training import default_start, train

    if resume is None and not options["config"]:
        start = default_start(store, options["domains"], arguments["init_from"], options["overrides"])
        config, arguments["init_from"] = load_config(start[0], options["overrides"]), start[1]
    elif options["config"] == "cpu":
        arguments["init_from"] = arguments["init_from"] or "auto"
    run = train(options["slices"], config=config, domains=options["domains"], seeds=options["seeds"], **arguments)
    print_run(run)
