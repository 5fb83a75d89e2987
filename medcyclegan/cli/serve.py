"""``medcyclegan serve``."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from medcyclegan.cli.common import Command, device_option, models_option


@click.command("serve", cls=Command)
@models_option
@click.option(
    "--send-to",
    required=True,
    metavar="AET@HOST:PORT",
    help="The DICOM node that gets the results; ?tls=on and others may follow, as for translate-volume.",
)
@click.option("--aet", "title", default="MEDCYCLEGAN", show_default=True, help="The AE title of this node.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="The address to listen on; 0.0.0.0: all."
)
@click.option("--port", type=click.IntRange(1, 65535), default=11112, show_default=True, help="The port to listen on.")
@click.option(
    "--accept-from",
    multiple=True,
    metavar="AET|any",
    help="An AE title that may send studies; can be repeated. Required unless only this machine can connect.",
)
@click.option("--rules", metavar="FILE", help="A YAML file that says which series are translated, and sets limits.")
@click.option("--to", metavar="DOMAIN", help="The domain to translate to.  [default: as for translate-volume]")
@click.option(
    "--queue",
    default="queue",
    show_default=True,
    metavar="DIR",
    help="The folder for studies until they are sent. Only its owner can read it.",
)
@click.option("--tls-cert", metavar="FILE", help="Accept only encrypted connections; the certificate of this node.")
@click.option("--tls-key", metavar="FILE", help="The key of the certificate, if it is in another file.")
@click.option("--tls-ca", metavar="FILE", help="Accept only callers with a certificate of these authorities.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    default=11113,
    show_default=True,
    help="The port of the health page, which only this machine can reach; 0: no page.",
)
@device_option
@click.option("--fast", is_flag=True, help="Compute in bf16 if the device supports it.")
def command(**options: Any) -> None:
    """Receive studies as a DICOM node, translate them, and send the results on (extra pacs).

    The node answers C-ECHO and C-STORE. When a study is complete, each of its series that a rule matches is
    translated, and the derived series is sent to the node of --send-to; without --rules, all CT and MR series are.
    Studies are kept in a queue on disk until they are sent, then deleted. Ctrl-C or SIGTERM stops the node; what it
    has accepted is translated and sent after the next start.
    """
    from medcyclegan.inference import InferenceOptions
    from medcyclegan.service.node import ServiceOptions, running_service

    os.umask(0o077)
    named = {name: options[name] for name in ("send_to", "title", "host", "port", "to", "accept_from")}
    files = {name: Path(options[name]) for name in ("rules", "tls_cert", "tls_key", "tls_ca") if options[name]}
    chosen = ServiceOptions(
        models=options["model"],
        queue=Path(options["queue"]),
        health_port=options["health_port"] or None,
        computing=InferenceOptions(device=options["device"], fast=options["fast"]),
        **{**named, **files},
    )
    with _stopped_by_signals() as stop, running_service(chosen) as service:
        service.wait(stop)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set; they are the regular way to stop a service."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
