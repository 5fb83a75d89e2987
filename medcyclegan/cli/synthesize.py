"""``medcyclegan synthesize``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import Command, device_option, shard_options

#: What ``--contrasts`` takes, as in ``medcyclegan.synthesis.CONTRASTS``: that would import torch for ``--help``.
_CONTRASTS = ("t1", "t2", "pd", "flair", "ct")


class _SynthesizeCommand(Command):
    """A command whose ``--contrasts`` takes one name or several."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the names after ``--contrasts`` to one value: click's options have a fixed number of them."""
        joined: list[str] = []
        words = list(args)
        while words:
            joined.append(words.pop(0))
            if joined[-1] == "--contrasts" and words:
                names = [words.pop(0)]
                while words and set(words[0].lower().split(",")) <= set(_CONTRASTS):
                    names.append(words.pop(0))
                joined.append(",".join(names))
        return super().parse_args(ctx, joined)


@click.command("synthesize", cls=_SynthesizeCommand)
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("--contrasts", default="t1 t2", show_default=True, metavar="NAMES",
              help="What to draw, one or more: t1, t2, pd, flair, ct.")  # fmt: skip
@click.option("--patients", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="How many.")
@click.option("--out", default="volumes", show_default=True, metavar="DIR", help="A folder for each contrast in it.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other patients.")
@click.option("--labels-table", metavar="CSV", help="Columns label and tissue.  [default: FreeSurfer's, SynthSeg's]")
@click.option("--spacing-mm", type=float, metavar="MM", help="Isotropic voxels of this size.  [default: drawn]")
@click.option("--lesions", type=click.FloatRange(0, 1), default=0.6, show_default=True, help="Share with lesions.")
@click.option("--extracted", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Share of brain-extracted patients.")  # fmt: skip
@click.option("--format", "file_format", type=click.Choice(["nifti", "dicom"]), default="nifti", show_default=True)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@shard_options
@device_option
def command(labels: tuple[str, ...], **options: Any) -> None:
    """Draw synthetic patients from label maps of heads.

    LABELS are files (NIfTI, .mha, .nrrd), or folders of them, whose voxels are label numbers. Each patient
    has the anatomy of one of them, deformed, with contrasts, lesions, noise and voxels of its own; all of
    its contrasts are on one grid. The volumes are in DIR/<contrast>/, as slice-volumes reads them; the true
    tissues and all that was drawn are in DIR-truth/. Finished patients are skipped, so the command can be
    repeated, with more patients or contrasts too.
    """
    from pathlib import Path

    from medcyclegan.device import choose_device
    from medcyclegan.shards import choose_shard
    from medcyclegan.synthesis import Cohort, Variation, read_labels_table, synthesize

    variation = Variation(spacing_mm=options["spacing_mm"], lesions=options["lesions"], extracted=options["extracted"])
    cohort = Cohort(
        contrasts=tuple(dict.fromkeys(options["contrasts"].replace(",", " ").lower().split())),
        patients=options["patients"],
        seed=options["seed"],
        variation=variation,
        format=options["file_format"],
    )
    table = None if options["labels_table"] is None else read_labels_table(Path(options["labels_table"]))
    result = synthesize(
        labels,
        options["out"],
        cohort,
        table=table,
        workers=options["workers"],
        device=choose_device(options["device"]),
        shard=choose_shard(options["num_shards"], options["shard_id"]),
    )
    click.echo(result.volumes)
