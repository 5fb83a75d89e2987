"""The address of a DICOMweb service, or of a study or series in it (DICOM PS3.18)."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from medcyclegan.errors import UsageError

__all__ = ["WebAddress", "is_dicomweb", "is_uid"]

_SCHEMES = ("https://", "http://")
_FORM = "https://host/dicom-web/studies/UID/series/UID"
_PATH = re.compile(r"(?P<service>.*?)(?:/studies(?:/(?P<study>[^/]+)(?:/series(?:/(?P<series>[^/]+))?)?)?)?/*")
#: Source: DICOM PS3.5 section 9.1.
_UID = re.compile(r"[0-9][0-9.]{0,63}")
#: The name of an attribute by which a search can be filtered.
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]*")


@dataclasses.dataclass(frozen=True)
class WebAddress:
    """A DICOMweb service, or a study or series in it.

    ``service``: the URL below which the resources are. ``study``, ``series``: UIDs, or empty. ``filters``: attributes
    and values that a search must match; never part of a message, because they can name a patient.
    """

    service: str
    study: str = ""
    series: str = ""
    filters: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    @classmethod
    def parse(cls, address: str) -> WebAddress:
        """Read ``https://host/dicom-web``, followed by ``/studies/UID``, ``/series/UID`` and ``?Keyword=value``.

        ``http://`` is accepted for this machine only, unless the address ends in ``?insecure=on``. Raises
        :class:`~medcyclegan.errors.UsageError`.
        """
        try:
            parts = urlsplit(address)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise UsageError("not a valid web address", remedy=f"write {_FORM}") from None
        shown = f"{parts.scheme}://{host}"
        if "@" in parts.netloc:
            raise UsageError(
                f"{shown}: a user name or password in an address is visible to others",
                remedy="leave it out, and set MEDCYCLEGAN_DICOMWEB_TOKEN, or MEDCYCLEGAN_DICOMWEB_CERT and _KEY",
            )
        if not re.fullmatch(r"[A-Za-z0-9._-]+", host) or parts.fragment or any(c.isspace() for c in parts.path):
            raise UsageError(f"{shown}: not the address of a DICOMweb service", remedy=f"write {_FORM}")
        found = _PATH.fullmatch(parts.path)
        uids = [found["study"] or "", found["series"] or ""] if found else ["?"]
        if not found or re.search(r"/(studies|series|instances)(/|$)", found["service"]):
            raise UsageError(f"{shown}{parts.path}: not a service, study or series", remedy=f"write {_FORM}")
        for uid in uids:
            if uid and not is_uid(uid):
                raise UsageError(f"{shown}{parts.path}: {uid} is not a UID", remedy="use digits and points")
        filters, insecure = _read_query(shown, parts)
        if parts.scheme.lower() == "http" and not insecure and not _is_loopback(host):
            raise UsageError(
                f"{shown}: http is not encrypted, so others in the network can read the images and the credentials",
                remedy="write https://, or add ?insecure=on",
            )
        place = f"{host}:{port}" if port else host
        return cls(f"{parts.scheme.lower()}://{place}{found['service'].rstrip('/')}", uids[0], uids[1], filters)

    @property
    def host(self) -> str:
        """The host and port that the address names."""
        return urlsplit(self.service).netloc

    @property
    def is_local(self) -> bool:
        """Whether the service runs on this machine."""
        return _is_loopback(urlsplit(self.service).hostname or "")

    @property
    def level(self) -> Literal["service", "study", "series"]:
        """What the address names."""
        return "series" if self.series else "study" if self.study else "service"

    def of_series(self, study: str, series: str) -> WebAddress:
        """Return the address of a series of this service."""
        return WebAddress(self.service, study, series)

    def __str__(self) -> str:
        study = f"/studies/{self.study}" if self.study else ""
        return f"{self.service}{study}" + (f"/series/{self.series}" if self.series else "")


def is_uid(text: str) -> bool:
    """Whether ``text`` consists of digits and points; archives hold UIDs that break the other rules of the standard."""
    return _UID.fullmatch(text) is not None


def is_dicomweb(place: str | os.PathLike[str] | None) -> bool:
    """Whether an input or output is a web address rather than a path."""
    return isinstance(place, str) and place.lower().startswith(_SCHEMES)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_query(shown: str, parts: SplitResult) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Return the filters after the ``?``, and whether ``insecure=on`` is among the parameters."""
    filters, insecure = [], False
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "insecure":
            if value != "on":
                raise UsageError(f"{shown}: insecure={value}", remedy="write insecure=on, or leave it out")
            insecure = True
        elif not _KEYWORD.fullmatch(name) or not value:
            raise UsageError(
                f"{shown}: {name!r} after the question mark",
                remedy="write DICOM keywords with values, such as Modality=CT, and insecure=on to accept http",
            )
        else:
            filters.append((name, value))
    return tuple(filters), insecure
