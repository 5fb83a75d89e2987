"""``medcyclegan synthesize``."""

from __future__ import annotations

from typing import Any

import click

from medcyclegan.cli.common import Command, check_paths, device_option, shard_options

#: The values of ``--contrasts``: a copy of ``medcyclegan.synthesis.CONTRASTS``, whose import would load torch.
_CONTRASTS = ("t1", "t2", "pd", "flair", "ct")


class _SynthesizeCommand(Command):
    """A command whose ``--contrasts`` takes one name or several."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the names after ``--contrasts`` into one value: an option of click has a fixed number of values."""
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
              help="One or more contrasts: t1, t2, pd, flair, ct.")  # fmt: skip
@click.option("--patients", type=click.IntRange(1), default=10, show_default=True, metavar="N",
              help="Number of patients.")  # fmt: skip
@click.option("--out", default="volumes", show_default=True, metavar="DIR",
              help="The folder to write, with one subfolder per contrast.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Random seed; each seed gives different patients.")  # fmt: skip
@click.option("--labels-table", metavar="CSV",
              help="The tissue of each label: columns label, tissue.  "
                   "[default: the labels of FreeSurfer and SynthSeg]")  # fmt: skip
@click.option("--spacing-mm", type=float, metavar="MM",
              help="Generate isotropic voxels of this size.  [default: random for each patient]")  # fmt: skip
@click.option("--lesions", type=click.FloatRange(0, 1), default=0.6, show_default=True, metavar="FRACTION",
              help="Fraction of patients with lesions.")  # fmt: skip
@click.option("--extracted", type=click.FloatRange(0, 1), default=0.0, show_default=True, metavar="FRACTION",
              help="Fraction of patients whose brain is extracted (skull-stripped).")  # fmt: skip
@click.option("--format", "file_format", type=click.Choice(["nifti", "dicom"]), default="nifti", show_default=True,
              help="The format of the volumes.")  # fmt: skip
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), metavar="N",
              help="Number of processes.")  # fmt: skip
@shard_options
@device_option
def command(labels: tuple[str, ...], **options: Any) -> None:
    """Generate synthetic patients from label maps of heads.

    LABELS are label maps (NIfTI, .mha or .nrrd files), or folders that contain them. Each patient has the deformed
    anatomy of one label map. Contrasts, lesions, noise and voxel size are random; all contrasts of a patient are on the
    same grid. The volumes are written to DIR/<contrast>/, which slice-volumes reads, and the true tissues and all
    random parameters to DIR-truth/. Finished patients are skipped, so the command can be repeated, also with more
    patients or contrasts.
    """
    from pathlib import Path

    check_paths(*labels, options["labels_table"])

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
