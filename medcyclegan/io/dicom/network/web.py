"""Fetch (WADO-RS), find (QIDO-RS) and store (STOW-RS) series with a DICOMweb service; extra ``dicomweb``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import requests

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.io.dicom.network.web_address import WebAddress, is_uid
from medcyclegan.io.dicom.network.web_client import connected, web_errors
from medcyclegan.io.inspected import InspectedVolume
from medcyclegan.progress import progress_bar

__all__ = ["check_service", "fetch_series", "find_series", "store_series"]

_log = logging.getLogger(__name__)

_MOST_IMAGES = 100_000
#: The most series that a search lists.
_MOST_SERIES = 1000
#: Images are stored in requests of about this size; larger ones are not sent in pieces.
_REQUEST_BYTES, _PIECE_BYTES = 16_000_000, 1 << 30
#: Tags of the attributes of a series in an answer, as DICOM JSON writes them (PS3.18 annex F).
_STUDY_UID, _SERIES_UID, _IMAGES = "0020000D", "0020000E", "00201209"
_MODALITY, _NUMBER, _DESCRIPTION = "00080060", "00200011", "0008103E"
_FIELDS = ["StudyInstanceUID", "SeriesDescription", "NumberOfSeriesRelatedInstances"]
#: A UID that no study has, for a search without results.
_NO_STUDY = "2.25.0"


def check_service(address: WebAddress) -> None:
    """Check that a service answers at ``address`` and admits us, by a search that finds nothing.

    Raises :class:`~medcyclegan.errors.WriteError`.
    """
    with connected(address) as client, web_errors(address, WriteError):
        try:
            client.search_for_studies(search_filters={"StudyInstanceUID": _NO_STUDY}, limit=1)
        except requests.exceptions.HTTPError as error:
            if error.response.status_code in (401, 403, 404):
                raise
            _log.debug("%s cannot be searched (status %d)", address, error.response.status_code)


def fetch_series(address: WebAddress, folder: Path) -> int:
    """Store every image of a series in ``folder``, as the server has it; return their number.

    Raises :class:`~medcyclegan.errors.ReadError` for an image of another series, and if the number of images differs
    from the one that the server states.
    """
    count = 0
    with connected(address) as client:
        stated = _stated_images(client, address)
        with progress_bar("fetching", stated or 0) as bar:
            for count, image in enumerate(_images(client, address), 1):
                _check_image(image, address, count)
                image.save_as(folder / f"{count:06d}.dcm")
                bar.advance()
    if stated is None:
        _log.warning("%s does not state the number of its images: missing ones at an end would not be noticed", address)
    elif stated != count:
        raise ReadError(
            f"{address}: the server has {stated} images of this series and sent {count}", remedy="fetch it again"
        )
    return count


def find_series(address: WebAddress) -> list[InspectedVolume]:
    """Return a row for each series of a service or study that matches the filters of ``address``; nothing is fetched.

    At most 1000 series are listed; a warning is logged if there may be more.
    """
    with connected(address) as client, web_errors(address):
        answer = client.search_for_series(
            address.study or None, search_filters=dict(address.filters), fields=_FIELDS, limit=_MOST_SERIES
        )
        rows = [_row(record, address) for record in answer]
    if len(rows) >= _MOST_SERIES:
        _log.warning("only the first %d series are listed: add filters, such as ?PatientID=...", _MOST_SERIES)
    return rows


def store_series(folder: Path, address: WebAddress, *, repeatable: bool = True) -> int:
    """Store every image of the series in ``folder``; return their number.

    ``repeatable``: whether writing the series again gives the same UIDs. Raises
    :class:`~medcyclegan.errors.WriteError` unless the server confirms each image.
    """
    files = sorted(folder.glob("*.dcm"))
    study = str(pydicom.dcmread(files[0], stop_before_pixels=True, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
    if address.study and address.study != study:
        raise WriteError(
            f"{address}: the series belongs to study {study}", remedy=f"send it to {address.service}, or to its study"
        )
    stored = 0
    again = "store it again, which duplicates nothing because the UIDs stay the same"
    if not repeatable:
        again = "remove these there before you store it again, because the UIDs will differ"
    with connected(address, piece_bytes=_PIECE_BYTES) as client, progress_bar("storing", len(files)) as bar:
        for batch in _batches(files):
            images = [pydicom.dcmread(file) for file in batch]
            try:
                with web_errors(address, WriteError):
                    answer = client.store_instances(images, address.study or None)
                    confirmed = {str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", [])}
                    reasons = {_reason(item) for item in answer.get("FailedSOPSequence", [])}
                if reasons or confirmed < {str(image.SOPInstanceUID) for image in images}:
                    why = f"status {', '.join(sorted(reasons))}" if reasons else "it does not confirm them"
                    raise WriteError(f"{address}: images are not stored ({why})")
            except WriteError as error:
                error.args = (f"{error}; {stored} of {len(files)} images are stored there: {again}",)
                raise
            stored += len(images)
            bar.advance(len(images))
    _log.info("%s stored %d images", address, stored)
    return stored


def _stated_images(client: Any, address: WebAddress) -> int | None:
    """Return the number of images that the server has of the series; None if it cannot be searched."""
    filters = {"SeriesInstanceUID": address.series}
    with web_errors(address):
        try:
            answer = client.search_for_series(address.study, search_filters=filters, fields=_FIELDS, limit=2)
        except requests.exceptions.HTTPError as error:
            _log.debug("%s cannot be searched (status %d)", address, error.response.status_code)
            return None
        numbers = {_text(record, _IMAGES) for record in answer if _text(record, _SERIES_UID) == address.series}
    number = numbers.pop() if len(numbers) == 1 else ""
    return int(number) if number.isdecimal() else None


def _images(client: Any, address: WebAddress) -> Iterator[pydicom.Dataset]:
    """Yield the images as they arrive, in the transfer syntax in which they are stored."""
    arriving = None
    while True:
        with web_errors(address):
            if arriving is None:
                arriving = iter(
                    client.iter_series(address.study, address.series, media_types=(("application/dicom", "*"),))
                )
            image = next(arriving, None)
        if image is None:
            return
        yield image


def _check_image(image: pydicom.Dataset, address: WebAddress, number: int) -> None:
    """Refuse an image of another study or series, which could be of another patient."""
    if number > _MOST_IMAGES:
        raise ReadError(f"{address}: more than {_MOST_IMAGES} images", remedy="check the address")
    found = (str(image.get("StudyInstanceUID", "")), str(image.get("SeriesInstanceUID", "")))
    if found != (address.study, address.series):
        raise ReadError(
            f"{address}: the server sent an image of another series", remedy="report it to its administrator"
        )


def _row(record: Any, address: WebAddress) -> InspectedVolume:
    study, series = _text(record, _STUDY_UID) or address.study, _text(record, _SERIES_UID)
    if not is_uid(study) or not is_uid(series):
        raise ValueError("a series without UIDs")
    images = _text(record, _IMAGES)
    return InspectedVolume(
        str(address.of_series(study, series)),
        "dicomweb",
        "listed",
        files=int(images) if images.isdecimal() else 0,
        reason="listed by the server, not read: inspect its address to see whether it can be read",
        series_uid=series,
        series_number=_text(record, _NUMBER) or None,
        description=_text(record, _DESCRIPTION) or None,
        modality=_text(record, _MODALITY) or None,
    )


def _text(record: Any, tag: str) -> str:
    """Return the first value of an attribute in DICOM JSON as text; empty without one."""
    values = record.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _reason(item: pydicom.Dataset) -> str:
    return f"{int(item.get('FailureReason', 0)):04X}H"


def _batches(files: Sequence[Path]) -> Iterable[list[Path]]:
    """Yield the files in groups of about ``_REQUEST_BYTES``."""
    batch: list[Path] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.stat().st_size
        if size >= _REQUEST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
