"""The command ``medcyclegan``, a group that imports a command only when it is run."""

from __future__ import annotations

import importlib

import click

import medcyclegan
from medcyclegan.errors import nearest

__all__ = ["main"]

#: Command -> (module, one line of help). The line is here so that ``--help`` imports no command.
_COMMANDS = {
    "inspect": ("inspect", "List volumes and whether each can be read."),
    "slice-volumes": ("slice_volumes", "Cut volumes into axial slices (volumes/ to slices/)."),
    "slices": ("slices", "List the volumes of a slice store, or remove some."),
    "train": ("train", "Train a CycleGAN on unpaired slices (slices/ to runs/)."),
    "pretrain": ("pretrain", "Train on pairs of synthetic patients, before training on real slices."),
    "federate": ("federate", "Write a job that trains one model across hospitals, for NVIDIA FLARE."),
    "translate-volume": ("translate_volume", "Translate a volume, or a folder of volumes, on the same grid."),
    "serve": ("serve", "Receive, translate and send studies as a DICOM node."),
    "models": ("models", "List the models that come with medcyclegan."),
    "evaluate": ("evaluate", "Score translations against references, or compare two unpaired sets."),
    "calibrate": ("calibrate", "Calibrate a model's prediction intervals on patients with ground truth."),
    "export": ("export", "Export a model as ONNX graphs or as a MONAI bundle."),
    "import-weights": ("import_weights", "Create a model from weights of the public PyTorch CycleGAN code."),
    "report": ("report", "Write a web page about a run, a table of scores, or a translation."),
    "synthesize": ("synthesize", "Generate synthetic patients from label maps of heads."),
    "app": ("app", "Serve a local web page to upload, translate and view a scan."),
    "demo": ("demo", "Run the whole workflow on synthetic heads, in minutes on a CPU."),
}


class _LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"medcyclegan.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; for a misspelled one, suggest the most similar name."""
        near = None if args[0] in _COMMANDS else nearest(args[0], _COMMANDS)
        if near is not None:
            ctx.fail(f"No such command '{args[0]}'. (Did you mean '{near}'?)")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(medcyclegan.__version__, prog_name="medcyclegan")
def main() -> None:
    """Translate whole medical volumes from one contrast to another with a CycleGAN.

    In a folder that contains volumes/<domain>/... for two domains (NIfTI files and DICOM folders), run:

    \b
        medcyclegan slice-volumes
        medcyclegan train
        medcyclegan translate-volume in.nii.gz out.nii.gz

    Research software, not a medical device: every output is synthetic and is marked as such.
    """
