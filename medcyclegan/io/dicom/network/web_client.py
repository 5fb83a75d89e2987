"""Connect to a DICOMweb service: credentials from the environment, limits, and errors in one line; extra ``dicomweb``.

Importing this module needs the extra; :mod:`medcyclegan.io.dicom.network.remote` imports it when it is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import urllib3
from dicomweb_client.api import DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from medcyclegan.errors import MedCycleGANError, ReadError, UsageError
from medcyclegan.io.dicom.network.address import load_certificates
from medcyclegan.io.dicom.network.web_address import WebAddress

__all__ = ["connected", "has_credentials", "web_errors"]

_VARIABLE = "MEDCYCLEGAN_DICOMWEB_"
_ACCESS = f"set {_VARIABLE}TOKEN, or {_VARIABLE}CERT and {_VARIABLE}KEY"
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 60
#: An answer may take at most this long in total, so that a server that sends a byte a minute does not hold us forever.
_MOST_SECONDS = 3600
#: The largest answer, decompressed. A whole-body CT of 2000 slices has 1 GB.
_MOST_MB = 4096
#: Each request is sent in one piece, because a piecewise one cannot be understood by every server.
_PIECE_BYTES = 1 << 20


def has_credentials() -> bool:
    """Whether the environment holds a token or a client certificate."""
    return any(os.environ.get(f"{_VARIABLE}{name}") for name in ("TOKEN", "CERT"))


@contextlib.contextmanager
def connected(address: WebAddress, *, piece_bytes: int = _PIECE_BYTES) -> Iterator[DICOMwebClient]:
    """Yield a client of the service of ``address``.

    The bearer token, the client certificate with its key and the authority that signed the server's certificate are
    in the environment (``MEDCYCLEGAN_DICOMWEB_TOKEN``, ``_CERT``, ``_KEY`` and ``_CA``). Redirections are not
    followed, since they could lead the credentials to another server. Requests larger than ``piece_bytes`` are sent in
    pieces. Raises :class:`~medcyclegan.errors.UsageError` for a wrong variable.
    """
    for library in ("dicomweb_client", "urllib3"):  # their messages contain UIDs and what was searched for
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with requests.Session() as session:
        session.trust_env = False  # neither .netrc nor variables of other programs change where credentials go
        session.max_redirects = 0
        if not address.is_local:
            session.proxies.update(requests.utils.get_environ_proxies(address.service))
        session.headers["Accept"] = "application/dicom+json"
        session.auth = _Bearer(_token())
        session.cert, session.verify = _certificates()
        adapter = _LimitedAdapter(_most_bytes())
        for scheme in ("https://", "http://"):
            session.mount(scheme, adapter)
        timeout = (_CONNECT_SECONDS, _ANSWER_SECONDS)
        client = DICOMwebClient(
            address.service, session=session, timeout=timeout, chunk_size=piece_bytes, permissive_uid=True
        )
        client.set_http_retry_params(retry=False)  # it would repeat a request whose body is already consumed
        yield client


@contextlib.contextmanager
def web_errors(address: WebAddress, error_type: type[MedCycleGANError] = ReadError) -> Iterator[None]:
    """Turn an error of the connection, or an answer that is not DICOMweb, into one line without secrets."""
    try:
        yield
    except (MedCycleGANError, MemoryError):
        raise
    except requests.exceptions.InvalidJSONError as error:
        raise _not_understood(address, error_type, error) from None
    except requests.exceptions.RequestException as error:
        phrase, remedy = _phrase(error, address)
        raise error_type(f"{address}: {phrase}", remedy=remedy) from None
    except urllib3.exceptions.HTTPError as error:
        raise error_type(f"{address}: the connection broke ({type(error).__name__})", remedy="try again") from None
    except Exception as error:  # the parsers of JSON and DICOM raise many types
        raise _not_understood(address, error_type, error) from error


def _not_understood(address: WebAddress, error_type: type[MedCycleGANError], error: Exception) -> MedCycleGANError:
    return error_type(
        f"{address}: its answer cannot be understood ({type(error).__name__})",
        remedy="check that the address is that of a DICOMweb service",
    )


class _Bearer(AuthBase):
    """Add the token to each request; with no token, keep requests from looking for other credentials."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _LimitedAdapter(HTTPAdapter):
    """Limit the size and duration of each answer."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send ``request``; its answer ends with an error at the limits."""
        response = super().send(request, *args, **kwargs)
        response.raw = _LimitedBody(response.raw, self._most_bytes)
        kind = response.headers.get("Content-Type", "")
        if kind.split(";")[0].strip().lower() in ("application/dicom+json", "application/json"):
            response.headers["Content-Type"] = "application/dicom+json"  # the client knows it without parameters only
        return response


class _LimitedBody:
    """The body of an answer, whose bytes are counted after decompression."""

    def __init__(self, raw: Any, most_bytes: int) -> None:
        self._raw, self._left = raw, most_bytes
        self._most_mb = most_bytes // 1_000_000
        self._deadline = time.monotonic() + _MOST_SECONDS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Yield the body in pieces."""
        try:
            for piece in self._raw.stream(*args, **kwargs):
                self._check(len(piece))
                yield piece
        except BaseException:
            self._raw.close()  # the connection would stay open, since its answer was not read to the end
            raise

    def _check(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ReadError(
                f"the server sends more than {self._most_mb} MB",
                remedy=f"check the address, or set {_VARIABLE}MAX_MB to a larger number",
            )
        if time.monotonic() > self._deadline:
            raise ReadError(f"the server is still sending after {_MOST_SECONDS // 60} minutes", remedy="try again")


def _token() -> str:
    token = os.environ.get(f"{_VARIABLE}TOKEN", "")
    if token and not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            f"{_VARIABLE}TOKEN contains spaces or other characters that no token has", remedy="set it anew"
        )
    return token


def _certificates() -> tuple[tuple[str, str] | str | None, str | bool]:
    """Return the client certificate, and the authorities that may sign the server's: by default, the system's."""
    ca, cert, key = (os.environ.get(f"{_VARIABLE}{name}") for name in ("CA", "CERT", "KEY"))
    if key and not cert:
        raise UsageError(f"{_VARIABLE}KEY: a key without its certificate", remedy=f"set {_VARIABLE}CERT")
    names = {"ca": f"{_VARIABLE}CA", "cert": f"{_VARIABLE}CERT", "key": f"{_VARIABLE}KEY"}
    load_certificates(*(Path(file) if file else None for file in (ca, cert, key)), names=names)
    system = ssl.get_default_verify_paths()
    return (cert, key) if cert and key else cert, ca or system.cafile or system.capath or True


def _most_bytes() -> int:
    most = os.environ.get(f"{_VARIABLE}MAX_MB", str(_MOST_MB))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", most):
        raise UsageError(f"{_VARIABLE}MAX_MB={most}", remedy="set it to a number of megabytes")
    return int(most) * 1_000_000


def _phrase(error: requests.exceptions.RequestException, address: WebAddress) -> tuple[str, str]:
    """Return what happened and the remedy; the text of the error itself may contain a query, and is not used."""
    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        status = error.response.status_code
        if status in (401, 403):
            return f"access refused (status {status})", _ACCESS
        if status == 404:
            return "not found (status 404)", f"check the address; medcyclegan inspect {address.service} lists series"
        return f"the server answers with status {status}", "ask its administrator"
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "it redirects to another address, which is not followed", "name that address"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time", "check host and port, or try again"
    reason = _root_cause(error)
    if isinstance(error, requests.exceptions.SSLError):
        return f"no encrypted connection ({reason})", f"name the authority of its certificate in {_VARIABLE}CA"
    return f"no connection ({reason})", "check host and port"


def _root_cause(error: BaseException) -> str:
    """Return the system's reason for a failed connection, which requests wraps several times."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseException) and current not in seen:
            seen.append(current)
            reason = getattr(current, "verify_message", "") or getattr(current, "strerror", "")
            if reason:
                return str(reason)
            waiting += [current.__context__, current.__cause__, getattr(current, "reason", None), *current.args]
    return type(seen[-1]).__name__
