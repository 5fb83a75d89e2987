"""``medcyclegan-slicer``, which 3D Slicer runs as a command-line module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import medcyclegan
from medcyclegan.cli.common import Command

__all__ = ["command"]


def _print_description(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from medcyclegan.slicer.description import describe_module

        click.echo(describe_module(), nl=False)
        ctx.exit()


def _install(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        from medcyclegan.errors import MedCycleGANError
        from medcyclegan.slicer.launcher import write_launcher

        try:
            click.echo(write_launcher(Path(value).absolute()))
        except MedCycleGANError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        ctx.exit()


@click.command("medcyclegan-slicer", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(medcyclegan.__version__, prog_name="medcyclegan-slicer")
@click.option(
    "--xml",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_description,
    help="Print the description of the parameters, from which Slicer builds the panel.",
)
@click.option(
    "--install",
    metavar="DIR",
    is_eager=True,
    expose_value=False,
    callback=_install,
    help="Write the program for Slicer into DIR, to be added to Slicer's module paths.",
)
@click.option("--translation", metavar="CHOICE", help="A translation of a shipped model, as --xml lists them.")
@click.option("--planes", type=click.Choice(["axial", "three"]), default="axial", show_default=True)
@click.option("--modelfolder", metavar="DIR", help="A model folder, instead of a shipped model.")
@click.option("--to", metavar="DOMAIN", help="The domain to translate to, with --modelfolder.")
@click.option("--uncertainty", metavar="FILE", help="Also write a map of the uncertainty of each voxel.")
@click.option("--returnparameterfile", metavar="FILE", help="Write the quality verdict into this file.")
@click.argument("source", metavar="IN")
@click.argument("output", metavar="OUT")
def command(source: str, output: str, **options: Any) -> None:
    """Translate the volume IN and write the result to OUT, as Slicer asks for it.

    Existing outputs are replaced, since Slicer chooses their names. Progress is printed in Slicer's tags.
    """
    from medcyclegan.slicer.run import ModuleOptions, run_module

    uncertainty, returned = options["uncertainty"], options["returnparameterfile"]
    chosen = ModuleOptions(
        translation=options["translation"] or "",
        planes=options["planes"],
        modelfolder=options["modelfolder"] or "",
        to=options["to"] or "",
        uncertainty=Path(uncertainty) if uncertainty else None,
        returnparameterfile=Path(returned) if returned else None,
    )
    run_module(Path(source), Path(output), chosen, click.echo)


if __name__ == "__main__":
    command()
