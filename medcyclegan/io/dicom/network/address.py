"""The address of a DICOM node (a PACS) as one string: ``dicom://AET@host:port?calling=AET&tls=on``."""

from __future__ import annotations

import dataclasses
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from medcyclegan.errors import UsageError

__all__ = ["SCHEME", "DicomNode", "check_title", "is_dicom_node", "load_certificates", "tls_context"]

SCHEME = "dicom://"
_FORM = f"{SCHEME}AET@host:port"
#: The parameters that may follow the port, as printed in an error's remedy.
_QUERY = ("calling", "tls", "ca", "cert", "key")
_CALLING_AET = "MEDCYCLEGAN"
#: Source: DICOM PS3.5 section 6.2, value representation AE.
_TITLE = re.compile(r"[ -\[\]-~]{1,16}")


@dataclasses.dataclass(frozen=True)
class DicomNode:
    """Where a series is sent.

    ``called`` and ``calling``: application entity titles, the node's and ours. ``tls``: whether the connection is
    encrypted; the node's certificate is then checked against the system's authorities, or against ``ca``, a PEM
    file. ``cert`` and ``key``: PEM files with our own certificate and its key, if the node requires one.
    """

    called: str
    host: str
    port: int
    calling: str = _CALLING_AET
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, address: str) -> DicomNode:
        """Read ``dicom://AET@host:port``, with ``?calling=AET&tls=on&ca=FILE&cert=FILE&key=FILE`` as needed.

        Raises :class:`~medcyclegan.errors.UsageError`.
        """
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"{address}: {error}", remedy=f"write {_FORM}") from None
        title = parts.username or ""
        if parts.scheme != "dicom" or not title or not host or not port or parts.path not in ("", "/"):
            raise UsageError(f"{address}: not the address of a DICOM node", remedy=f"write {_FORM}")
        if parts.password is not None:
            raise UsageError(
                f"{SCHEME}{title}:…@{host}:{port}: a DICOM node takes no password", remedy=f"write {_FORM}"
            )
        if "@" in title or "#" in address:
            raise UsageError(
                f"{address}: a second @, or a #", remedy=f"write {_FORM}, with %40 for an @ and %23 for a # in a name"
            )
        options = _read_query(address, parts.query)
        called, calling = unquote(title), options.get("calling", _CALLING_AET)
        for title in (called, calling):
            check_title(title)
        tls = options.get("tls", "off")
        files = {name: Path(options[name]) for name in ("ca", "cert", "key") if name in options}
        if tls not in ("on", "off"):
            raise UsageError(f"{address}: tls={tls}", remedy="write tls=on or tls=off")
        if files and tls == "off":
            raise UsageError(
                f"{address}: {' and '.join(files)} are only for an encrypted connection", remedy="add tls=on"
            )
        if "key" in files and "cert" not in files:
            raise UsageError(f"{address}: a key without its certificate", remedy="add cert=FILE")
        return cls(called, host, port, calling, tls == "on", **files)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{self.called}@{host}:{self.port}"


def is_dicom_node(output: str | os.PathLike[str]) -> bool:
    """Whether an output is the address of a DICOM node rather than a path."""
    return isinstance(output, str) and output.lower().startswith(SCHEME)


def tls_context(node: DicomNode) -> ssl.SSLContext | None:
    """Return the TLS context for ``node``, which checks its certificate and host name; None without TLS.

    Raises :class:`~medcyclegan.errors.UsageError` for a PEM file that is missing or invalid.
    """
    if not node.tls:
        return None
    return load_certificates(node.ca, node.cert, node.key)


def load_certificates(
    ca: Path | None, cert: Path | None, key: Path | None, *, names: Mapping[str, str] | None = None
) -> ssl.SSLContext:
    """Return the TLS context of a client that trusts ``ca`` and presents ``cert``, PEM files; see :class:`DicomNode`.

    ``names``: how messages call the settings ``ca``, ``cert`` and ``key``. Raises
    :class:`~medcyclegan.errors.UsageError` for a file that is missing or invalid.
    """
    called = names or {"ca": "ca", "cert": "cert", "key": "key"}
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise UsageError(
            f"{called['ca']}={ca}: {error.strerror or error}", remedy="name a PEM file of certificates"
        ) from None
    if cert is not None:
        try:
            context.load_cert_chain(cert, key)
        except OSError as error:
            named = f"{called['cert']}={cert}" + (f", {called['key']}={key}" if key else "")
            raise UsageError(
                f"{named}: {error.strerror or error}", remedy="name a certificate and its key, PEM files"
            ) from None
    return context


def _read_query(address: str, query: str) -> dict[str, str]:
    """Return the parameters after the port; one that is unknown, repeated or without a value is refused."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERY:
            raise UsageError(f"{address}: unknown {name!r} after the port", remedy=f"it takes {', '.join(_QUERY)}")
        if name in options:
            raise UsageError(
                f"{address}: {name} is given twice ({options[name]!r} and {value!r})", remedy="give it once"
            )
        if not value:
            raise UsageError(f"{address}: {name} has no value", remedy=f"write {name}=VALUE, or leave it out")
        options[name] = value
    return options


def check_title(title: str) -> None:
    """Refuse what is not an application entity title. Raises :class:`~medcyclegan.errors.UsageError`."""
    if not title.strip() or not _TITLE.fullmatch(title):
        raise UsageError(
            f"{title!r} is not an application entity title: 1 to 16 characters, without backslash",
            remedy="ask for the node's",
        )
