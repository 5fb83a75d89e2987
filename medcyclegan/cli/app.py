"""``medcyclegan app``."""

from __future__ import annotations

from pathlib import Path

import click

from medcyclegan.cli.common import Command


@click.command("app", cls=Command)
@click.option(
    "--port", type=click.IntRange(1024, 65535), metavar="N", help="The port to listen on.  [default: any free one]"
)
@click.option(
    "--model",
    multiple=True,
    metavar="DIR",
    help="Also offer the model in this folder; can be repeated.",
)
@click.option(
    "--max-upload-mb",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Refuse larger uploads.",
)
def command(port: int | None, model: tuple[str, ...], max_upload_mb: int) -> None:
    """Serve a local web page on which you can upload, translate and view a scan (extra app).

    Open the printed address in a browser. It works on this machine only and contains a secret: anyone who has the
    address can use the page. Upload a NIfTI file or a zipped DICOM series, choose a translation, view the result and
    download it. Uploads and results are removed when the page is closed, and at the latest when the command ends
    (Ctrl-C).
    """
    from medcyclegan.app.serve import serve_app
    from medcyclegan.app.upload import UploadLimits

    limits = UploadLimits(most_bytes=max_upload_mb * 1_000_000)
    serve_app(click.echo, port=port or 0, models=[Path(folder) for folder in model], limits=limits)
