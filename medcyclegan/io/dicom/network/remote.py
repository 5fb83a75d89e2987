"""Inputs and outputs that are addresses instead of paths: DICOM nodes and DICOMweb services."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medcyclegan.errors import MedCycleGANError, MissingExtraError, UsageError
from medcyclegan.io.dicom.network.address import DicomNode, is_dicom_node
from medcyclegan.io.dicom.network.web_address import WebAddress, is_dicomweb
from medcyclegan.storage import scratch_folder

__all__ = [
    "Destination",
    "check_one_server",
    "fetched",
    "is_destination",
    "list_series",
    "open_destination",
    "send_series",
]

Destination = DicomNode | WebAddress


def is_destination(output: str | os.PathLike[str]) -> bool:
    """Whether an output is an address to which the series is sent, rather than a path."""
    return is_dicom_node(output) or is_dicomweb(output)


def open_destination(output: str) -> Destination:
    """Return the destination of ``output`` after checking that it answers.

    Raises :class:`~medcyclegan.errors.UsageError` for a wrong address, and
    :class:`~medcyclegan.errors.WriteError` with the destination's answer.
    """
    if is_dicom_node(output):
        from medcyclegan.io.dicom.network.send import check_node

        node = DicomNode.parse(output)
        check_node(node)
        return node
    address = WebAddress.parse(output)
    if address.series or address.filters:
        raise UsageError(
            f"{address}: the derived series has a UID of its own", remedy="name the service, or the study as its output"
        )
    _import_web("web").check_service(address)
    return address


def send_series(folder: Path, destination: Destination, *, repeatable: bool = True) -> int:
    """Send every image of the series in ``folder`` to ``destination``; return their number.

    ``repeatable``: whether writing the series again gives the same UIDs. Raises
    :class:`~medcyclegan.errors.WriteError` if an image is not stored.
    """
    if isinstance(destination, DicomNode):
        from medcyclegan.io.dicom.network import send

        return send.send_series(folder, destination, repeatable=repeatable)
    stored: int = _import_web("web").store_series(folder, destination, repeatable=repeatable)
    return stored


@contextlib.contextmanager
def fetched(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of ``source``; a series of a DICOMweb service is fetched into a folder that exists for the block.

    Only this user can read the folder, and what a killed process left is removed. In an error message, the address
    takes the place of the folder. Raises :class:`~medcyclegan.errors.ReadError` if the series cannot be fetched.
    """
    if not is_dicomweb(source):
        yield Path(source)
        return
    address = WebAddress.parse(str(source))
    if not address.series or address.filters:
        raise UsageError(
            f"{address}: not the address of one series", remedy=f"medcyclegan inspect {address.service} lists them"
        )
    web = _import_web("web")
    with scratch_folder(Path(tempfile.gettempdir()), "medcyclegan-fetched", mode=0o700) as folder:
        series = folder / "series"
        series.mkdir()
        web.fetch_series(address, series)
        try:
            yield series
        except MedCycleGANError as error:
            error.args = (str(error).replace(str(series), str(address)),)
            raise


def list_series(source: str) -> Any:
    """Return a row for each series of a DICOMweb service or study: :class:`InspectedVolume`, with verdict listed."""
    return _import_web("web").find_series(WebAddress.parse(source))


def check_one_server(*places: str | os.PathLike[str] | None) -> None:
    """Refuse two servers if the environment holds credentials, because each server would receive those of the other.

    ``places``: inputs and outputs, of which some are addresses. Raises :class:`~medcyclegan.errors.UsageError`.
    """
    hosts = sorted({WebAddress.parse(str(place)).host for place in places if is_dicomweb(place)})
    if len(hosts) > 1 and _import_web("web_client").has_credentials():
        raise UsageError(
            f"{' and '.join(hosts)}: the credentials in the environment are for one server",
            remedy="translate into a folder, and send it with another program",
        )


def _import_web(name: str) -> Any:
    try:
        importlib.import_module("dicomweb_client")
        importlib.import_module("requests")
    except ImportError:
        raise MissingExtraError(
            "dicomweb-client is not installed, which web addresses need",
            remedy="install the extra with pip install 'medcyclegan[dicomweb]'",
        ) from None
    return importlib.import_module(f"medcyclegan.io.dicom.network.{name}")
