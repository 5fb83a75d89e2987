"""Pseudonyms of patients: the same for every series of a patient in every run, by a private key file.

The key file links PatientIDs to pseudonyms: whoever reads it can identify the patients. It is readable by its owner
only, changed under a lock, and replaced atomically; a file that others can read or that is damaged is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hmac
import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from medcyclegan.errors import ReadError, WriteError
from medcyclegan.provenance import hash_json
from medcyclegan.storage import atomic_write, check_output, exclusive_lock

__all__ = ["Pseudonym", "check_key_file", "find_pseudonym", "identify_key_file"]

_log = logging.getLogger(__name__)

_MADE_BY = "medcyclegan pseudonyms"
#: Letters and digits that are not mistaken for each other.
_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_LENGTH = 10
#: Dates are moved to the past, never into the future.
_LEAST_DAYS, _MOST_DAYS = 30, 3650
#: Arc of UIDs that are derived from a UUID (PS3.5 section B.2).
_UUID_ROOT = "2.25."


@dataclasses.dataclass(frozen=True)
class Pseudonym:
    """The pseudonym of one patient.

    ``patient_id``: the new PatientID, and PatientName. ``days``: how far the patient's dates are moved to the past.
    ``key``: the secret of the key file, from which new UIDs are derived.
    """

    patient_id: str
    days: int
    key: bytes = dataclasses.field(repr=False)

    def shift_date(self, date: str) -> str:
        """Return a DICOM date (DA, ``YYYYMMDD``), moved by this patient's number of days; "" if there is none.

        Raises :class:`~medcyclegan.errors.WriteError` for a date that cannot be moved.
        """
        if not date:
            return ""
        try:
            moved = datetime.datetime.strptime(date, "%Y%m%d").replace(tzinfo=datetime.UTC)
            moved -= datetime.timedelta(days=self.days)
        except (ValueError, OverflowError):
            raise WriteError(
                "a date of the source is not YYYYMMDD or too early to be shifted",
                remedy="correct it in the source, or leave --pseudonyms out to remove dates",
            ) from None
        return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"

    def replace_uid(self, uid: str) -> str:
        """Return the new UID for ``uid``: always the same, and without the key file not traceable to ``uid``."""
        digest = hmac.digest(self.key, uid.encode(), "sha256")[:16]
        return f"{_UUID_ROOT}{int.from_bytes(digest)}"


def check_key_file(file: Path, patient_id: str) -> None:
    """Refuse, before any work, a key file that cannot be used, and a patient without a PatientID.

    A key file that does not exist is created later. Raises :class:`~medcyclegan.errors.WriteError` or
    :class:`~medcyclegan.errors.ReadError`.
    """
    if not patient_id:
        raise WriteError(
            "the source has no PatientID, so it is not certain whose pseudonym it gets",
            remedy="correct the source, or leave --pseudonyms out",
        )
    file = Path(os.path.realpath(file))
    if file.exists():
        _load(file)
    check_output(file, overwrite=True)


def find_pseudonym(file: Path, patient_id: str, issuer: str = "") -> Pseudonym:
    """Return the pseudonym of the patient in the key file; a new patient gets a new one, which is added to the file.

    ``issuer``: IssuerOfPatientID, which distinguishes the same PatientID of two hospitals. Raises as
    :func:`check_key_file` does.
    """
    check_key_file(file, patient_id)
    file = Path(os.path.realpath(file))
    with _locked(file):
        record = _load(file) if file.exists() else _new_record(file)
        found = next(
            (row for row in record["patients"] if (row["PatientID"], row["issuer"]) == (patient_id, issuer)), None
        )
        if found is None:
            found = {"PatientID": patient_id, "issuer": issuer, "pseudonym": _new_name(record), "days": _new_days()}
            record["patients"].append(found)
            _save(file, record)
    return Pseudonym(found["pseudonym"], found["days"], bytes.fromhex(record["key"]))


def identify_key_file(file: Path) -> str:
    """Return a hexadecimal number that differs between key files and reveals nothing; create a missing file.

    Raises :class:`~medcyclegan.errors.WriteError` or :class:`~medcyclegan.errors.ReadError`.
    """
    file = Path(os.path.realpath(file))
    check_output(file, overwrite=True)
    with _locked(file):
        if file.exists():
            record = _load(file)
        else:
            record = _new_record(file)
            _save(file, record)
    return hmac.digest(bytes.fromhex(record["key"]), b"identity", "sha256")[:8].hex()


def _locked(file: Path) -> contextlib.AbstractContextManager[None]:
    return exclusive_lock(file.parent / f".{file.name}.lock", mode=0o600)


def _new_record(file: Path) -> dict[str, Any]:
    _log.warning("%s does not exist: a new key file is created, with new pseudonyms", file.name)
    return {"made_by": _MADE_BY, "key": secrets.token_hex(32), "patients": []}


def _new_name(record: dict[str, Any]) -> str:
    taken = {row["pseudonym"] for row in record["patients"]}
    while True:
        name = "P-" + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        if name not in taken:
            return name


def _new_days() -> int:
    return _LEAST_DAYS + secrets.randbelow(_MOST_DAYS - _LEAST_DAYS + 1)


def _save(file: Path, record: dict[str, Any]) -> None:
    with atomic_write(file, mode=0o600) as stream:
        stream.write((json.dumps({**record, "sha256": _digest(record)}, indent=1) + "\n").encode())


def _load(file: Path) -> dict[str, Any]:
    """Return the content of the key file; refuse one that others can read, or that is not complete and unchanged."""
    try:
        mode = file.stat().st_mode
        if mode & 0o077:
            raise ReadError(
                f"the key file {file} identifies patients, and others can read or change it (mode {mode & 0o777:o})",
                remedy=f"protect it with chmod 600 {file}",
            )
        record = json.loads(file.read_text("utf-8"))
        digest = record.pop("sha256")
        valid = record["made_by"] == _MADE_BY and digest == _digest(record)
    except OSError as error:
        raise ReadError(f"the key file {file} cannot be read: {error.strerror}", remedy="name another one") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise ReadError(
            f"{file} is not a key file of pseudonyms, or it is damaged",
            remedy="restore it from a backup, or name a new file for new pseudonyms",
        )
    loaded: dict[str, Any] = record
    return loaded


def _digest(record: dict[str, Any]) -> str:
    return hash_json(record)
