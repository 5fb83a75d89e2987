"""``medcyclegan federate``."""

from __future__ import annotations

from pathlib import Path

import click

from medcyclegan.cli.common import Command, check_models, config_options


@click.command("federate", cls=Command)
@click.option("--domains", nargs=2, metavar="A B", required=True, help="The names of the two domains at all sites.")
@config_options
@click.option("--rounds", type=click.IntRange(1), required=True, metavar="N", help="Average the weights N times.")
@click.option(
    "--steps", type=click.IntRange(1), required=True, metavar="N", help="Train for N steps at each site in a round."
)
@click.option(
    "--min-sites",
    type=click.IntRange(1),
    required=True,
    metavar="N",
    help="The number of sites that must answer in a round.",
)
@click.option(
    "--wait",
    type=click.IntRange(0),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for further sites once --min-sites have answered.",
)
@click.option("--init-from", metavar="MODEL", help="Start from the generators of this model folder or shipped model.")
@click.option("--out", default="federated-job", show_default=True, metavar="DIR", help="The job folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing folder.")
def command(
    domains: tuple[str, str],
    config: str | None,
    overrides: tuple[str, ...],
    rounds: int,
    steps: int,
    min_sites: int,
    wait: int,
    init_from: str | None,
    out: str,
    overwrite: bool,
) -> None:
    """Write the job of a federated training, for NVIDIA FLARE.

    Sites train on their own slices, which may be of one domain only, and send weights and counts. The folder is run by
    the tools of NVIDIA FLARE (extra "federated"): "nvflare simulator" on one machine, or submitted to a server. Each
    site names its slice store in the environment variable MEDCYCLEGAN_SLICES and its folder of runs in
    MEDCYCLEGAN_RUNS; see docs/howto/federated.md.
    """
    from medcyclegan.config import load_config
    from medcyclegan.storage import check_output

    check_models(init_from)
    check_output(Path(out), overwrite=overwrite)
    settings = load_config(config or "default", overrides)

    from medcyclegan.federated.job import write_job
    from medcyclegan.model.bundle import ModelBundle

    initial = None if init_from is None else ModelBundle.load(init_from)
    job = write_job(
        Path(out),
        settings,
        domains,
        rounds=(rounds, steps),
        answers=(min_sites, wait),
        initial=initial,
        overwrite=overwrite,
    )
    click.echo(out)
    click.echo(f"state and model of this job: {job.name} in the folders of runs", err=True)
