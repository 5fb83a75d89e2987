"""The DICOM node as a whole: it checks its settings, starts its parts, and stops them in order."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import medcyclegan
from medcyclegan.config import Serving, load_serving
from medcyclegan.device import choose_device
from medcyclegan.errors import UsageError, WriteError
from medcyclegan.inference import InferenceOptions, load_models
from medcyclegan.io.dicom.network.address import DicomNode, check_title, tls_context
from medcyclegan.io.dicom.network.listener import LargestInput, Listening
from medcyclegan.io.dicom.network.receive import Receiver
from medcyclegan.model.bundle import direction_to
from medcyclegan.service.delivery import Deliverer
from medcyclegan.service.health import HealthPage
from medcyclegan.service.intake import Intake
from medcyclegan.service.plan import Planner, node_at
from medcyclegan.service.queue import Queue
from medcyclegan.service.translation import Translator

__all__ = ["Service", "ServiceOptions", "running_service"]

_log = logging.getLogger(__name__)

_MB = 1_000_000
_PRUNE_S, _RETRY_S = 600.0, 10.0
#: Values of ``--accept-from`` that accept every caller.
ANYONE = "any"


@dataclasses.dataclass(frozen=True)
class ServiceOptions:
    """Options of the service; the help of ``serve`` describes each. ``health_port``: None for no page, 0 for any."""

    models: Sequence[str]
    send_to: str
    queue: Path
    title: str = "MEDCYCLEGAN"
    host: str = "127.0.0.1"
    port: int = 11112
    to: str | None = None
    rules: Path | None = None
    accept_from: Sequence[str] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    health_port: int | None = None
    computing: InferenceOptions = dataclasses.field(default_factory=InferenceOptions)


class Service:
    """A running service; :func:`running_service` starts and stops it."""

    def __init__(self, options: ServiceOptions, held: contextlib.ExitStack) -> None:
        serving = load_serving(options.rules) if options.rules is not None else Serving()
        planner = _build_planner(options, serving)
        listening = _build_listening(options, serving)
        computing = dataclasses.replace(options.computing, device=str(choose_device(options.computing.device)))
        self.queue = Queue(options.queue)
        held.callback(self.queue.close)
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._begun = time.monotonic()
        self._serving = serving
        self.intake = Intake(self.queue, serving.waiting, serving.limits)
        self.translator = Translator(self.queue, planner, options.models, computing)
        self.deliverer = Deliverer(self.queue, serving.limits)
        self.health = None
        if options.health_port is not None:
            self.health = HealthPage(options.health_port, self.state)
            held.callback(self.health.close)
        threads = [
            threading.Thread(target=self._run, args=(work,), name=name)
            for name, work in (
                ("studies", self._finish_studies),
                ("translation", self.translator.run),
                ("delivery", self.deliverer.run),
            )
        ]
        for thread in threads:
            thread.start()
            held.callback(thread.join)
        held.callback(self._stop.set)
        self.receiver = Receiver(listening, self.intake.store)
        held.callback(self.receiver.close)
        _log.info(
            "%s listens on %s:%d%s, accepts %s, and sends to %s",
            *(options.title, options.host, self.receiver.port, " (TLS)" if listening.tls else ""),
            *(", ".join(listening.callers) or "any caller", ", ".join(_short(planner.addresses()))),
        )

    def wait(self, stop: threading.Event) -> None:
        """Wait until ``stop``, or until a part of the service fails, whose error is raised."""
        while not stop.wait(0.2) and not self._stop.is_set() and self.receiver.is_alive():
            pass
        if self._failed:
            raise self._failed[0]

    def state(self) -> dict[str, Any]:
        """Return what the health page shows."""
        free_mb = shutil.disk_usage(self.queue.folder).free / _MB
        held = {state: len(self.queue.names(state)) for state in ("receiving", "waiting", "sending", "failed")}
        problems = [f"{reason}" for reason in list(self.deliverer.unreachable.values())]
        reserved_mb = self.queue.reserved.total() / _MB
        if free_mb - reserved_mb < self._serving.limits.keep_free_mb:
            problems.append(
                f"the disk of the queue is full: {free_mb:.0f} MB are free, {reserved_mb:.0f} MB of these for results"
            )
        if held["failed"]:
            problems.append(f"{held['failed']} studies failed: see the log")
        return {
            "problems": problems,
            "version": medcyclegan.__version__,
            "uptime_s": round(time.monotonic() - self._begun),
            **{f"studies_{state}": count for state, count in held.items()},
            **{f"series_{what}": self.translator.counts[what] for what in ("translated", "ignored", "refused")},
            "series_sent": self.deliverer.counts["sent"],
            "images_refused": self.intake.refused_images,
            "free_mb": round(free_mb),
            "reserved_mb": round(reserved_mb),
        }

    def _finish_studies(self, stop: threading.Event) -> None:
        """Complete studies, and delete old ones, until ``stop``."""
        limits, pruned = self._serving.limits, -_PRUNE_S
        while not stop.wait(0.1):
            try:
                self.intake.finish_studies()
            except WriteError as error:
                _log.error("%s; trying again in %g s", error, _RETRY_S)
                stop.wait(_RETRY_S)
            if time.monotonic() - pruned > _PRUNE_S:
                self.queue.prune(limits.keep_failed_days, limits.remember_days)
                pruned = time.monotonic()

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        """Run a part of the service; its failure ends the whole, so that a supervisor starts it again."""
        try:
            work(self._stop)
        except BaseException as error:  # raised again by wait()
            self._failed.append(error)
            self._stop.set()


@contextlib.contextmanager
def running_service(options: ServiceOptions) -> Iterator[Service]:
    """Start the service, and stop it at the end of the block; what it has accepted stays in the queue.

    Raises a :class:`~medcyclegan.errors.MedCycleGANError` for settings that cannot work.
    """
    with contextlib.ExitStack() as held:
        yield Service(options, held)


def _build_planner(options: ServiceOptions, serving: Serving) -> Planner:
    """Check the models, the domains and the addresses."""
    check_title(options.title)
    models = load_models(list(options.models))
    identity = (medcyclegan.__version__, *(model.fingerprint for model in models), *options.computing.settings)
    planner = Planner(serving, node_at(options.send_to, options.title), options.to, options.title, identity)
    for target in planner.targets():
        direction_to(models, target)
    for address in planner.addresses():
        node = DicomNode.parse(address)
        tls_context(node)
        if node.called == options.title and node.port == options.port and node.host in (options.host, "localhost"):
            raise UsageError(f"--send-to {node} is this node", remedy="name the node that receives the results")
    return planner


def _build_listening(options: ServiceOptions, serving: Serving) -> Listening:
    """Check who may connect: other machines only if the callers are named, or ``any`` is."""
    callers = [title for title in options.accept_from if title != ANYONE]
    for title in callers:
        check_title(title)
    if not options.accept_from and not _is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} can be reached by other machines",
            remedy="name the titles that may send with --accept-from AET, or accept all with --accept-from any",
        )
    limits = serving.limits
    return Listening(
        title=options.title,
        host=options.host,
        port=options.port,
        callers=() if ANYONE in options.accept_from else tuple(callers),
        tls=_server_context(options),
        largest=LargestInput(object_bytes=int(limits.object_mb * _MB), pdu_s=limits.timeout_s),
        associations=limits.associations,
        timeout_s=limits.timeout_s,
    )


def _server_context(options: ServiceOptions) -> ssl.SSLContext | None:
    """Return the TLS context of the listening port; with ``tls_ca``, callers need a certificate of that authority."""
    if options.tls_cert is None:
        if options.tls_key is not None or options.tls_ca is not None:
            raise UsageError("--tls-key and --tls-ca need --tls-cert", remedy="name the certificate of this node")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
        if options.tls_ca is not None:
            context.load_verify_locations(options.tls_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        named = ", ".join(str(file) for file in (options.tls_cert, options.tls_key, options.tls_ca) if file)
        raise UsageError(f"{named}: {error.strerror or error}", remedy="name PEM files") from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror}", remedy="name an address of this machine") from None
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def _short(addresses: set[str]) -> list[str]:
    return sorted(str(DicomNode.parse(address)) for address in addresses)
