"""``medcyclegan pretrain``."""

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


@click.command("pretrain", cls=Command)
@click.argument("labels", nargs=-1, metavar="[LABELS]...")
@config_options
@click.option("--slices", metavar="DIR", help="Train on the pairs of this slice store instead of label maps.")
@click.option("--domains", nargs=2, metavar="A B", help="The two contrasts.  [default: t1 t2, or the two in the store]")
@click.option(
    "--labels-table",
    metavar="CSV",
    help="The tissue of each label: columns label, tissue.  [default: the labels of FreeSurfer and SynthSeg]",
)
@training_options
@device_option
def command(labels: tuple[str, ...], **options: Any) -> None:
    """Train both generators on pairs of synthetic patients, before training on real slices.

    LABELS are label maps of heads, or folders that contain them, as for synthesize; patients are generated during the
    training. Alternatively, --slices names a slice store of patients with both contrasts on one grid.

    As with train, every run is written to a new folder in --out. It contains a model for translate-volume; train
    --init-from continues from that model with real, unpaired slices. A run can be stopped at any time; --resume
    continues it as if it had not been interrupted.
    """
    from pathlib import Path

    from medcyclegan.config import load_config
    from medcyclegan.errors import UsageError

    resume, arguments = options["resume"], training_arguments(options)
    named = ("config", "overrides", "slices", "domains", "labels_table")
    if resume is not None and (labels or any(options[name] for name in named)):
        raise UsageError("--resume uses the run's label maps and configuration: pass no others")
    if not (options["slices"] and (labels or options["labels_table"])):  # a contradiction is reported first
        check_paths(*labels, options["labels_table"], options["slices"], resume or None)
    if options["init_from"] != "none":
        check_models(options["init_from"])

    from medcyclegan.synthesis import read_labels_table
    from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain, unused_settings

    keys = [override.partition("=")[0].strip() for override in options["overrides"]]
    for key in unused_settings(keys, with_store=options["slices"] is not None):
        raise UsageError(
            f"--set {key}: pretrain does not use this setting here: leave it out (see section pretraining)"
        )
    data = config = None
    if resume is None:
        config = load_config(options["config"] or "default", options["overrides"])
        table = None if options["labels_table"] is None else read_labels_table(Path(options["labels_table"]))
        data = PretrainingData(labels, options["slices"], table, options["domains"])
    print_run(pretrain(data, config=config, **arguments))
