"""Translate the volumes of a cohort, one by one, into a BIDS derivative dataset."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from medcyclegan.cohort.bids import RAW, derivative_path, generated_by, open_derivative
from medcyclegan.cohort.ledger import update_ledger
from medcyclegan.errors import MedCycleGANError, ReadError, UsageError, WriteError, one_line
from medcyclegan.inference import TranslationOptions, load_models, translate_file
from medcyclegan.io import FoundVolume
from medcyclegan.model import ModelBundle
from medcyclegan.progress import progress_bar
from medcyclegan.provenance import hash_json
from medcyclegan.shards import share_of
from medcyclegan.storage import atomic_write

__all__ = ["TranslatedCohort", "translate_cohort"]

log = logging.getLogger(__name__)

_STAGE = "translate"


@dataclasses.dataclass(frozen=True)
class TranslatedCohort:
    """The result of :func:`translate_cohort`: new outputs, outputs that already existed, and reasons of failures."""

    translated: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    failed: dict[str, str]


def translate_cohort(
    source: Path,
    volumes: Sequence[FoundVolume],
    out: Path,
    model: str | Path | ModelBundle | Sequence[str | Path | ModelBundle],
    options: TranslationOptions | None = None,
    *,
    shard: tuple[int, int] = (0, 1),
) -> TranslatedCohort:
    """Translate the ``volumes`` of the dataset ``source`` into the derivative dataset ``out``.

    Every volume gets an output, a sidecar (with ``GeneratedBy`` and ``Sources``) and, at the end, a marker, so that
    after a crash another call translates only the missing ones. If a volume fails, it is recorded in the ledger, and
    the others are still translated. A volume whose output was made from another input, by another model or with
    other settings fails, unless ``options.overwrite`` is set. ``shard``: its number and the number of shards. Raises
    a :class:`~medcyclegan.errors.MedCycleGANError` if no volume can be translated at all.
    """
    options = options or TranslationOptions()
    bundles = load_models(model)
    target = bundles[0].direction(options.to or bundles[0].domains[1].name).target.name
    outputs = _outputs(volumes, target)
    open_derivative(out, source, target)
    own = share_of(list(zip(volumes, outputs, strict=True)), shard)
    translated, unchanged, failed = [], [], {}
    with progress_bar("translating", len(own)) as bar:
        for found, relative in own:
            wanted = _marker(found, bundles, target, options)
            try:
                if _is_current(out, relative, wanted, options):
                    unchanged.append(out / relative)
                else:
                    translated.append(
                        _translate(found, out, relative, bundles, dataclasses.replace(options, to=target))
                    )
                    with atomic_write(_marker_path(out, relative)) as file:
                        file.write((json.dumps(wanted) + "\n").encode())
            except MedCycleGANError as error:
                failed[found.name] = str(error)
            except MemoryError:
                failed[found.name] = "not enough memory to translate it: give the job more memory"
            if found.name in failed:
                log.error("%s: %s", one_line(found.name), failed[found.name])
            bar.advance()
    update_ledger(out, _STAGE, [found.name for found, _ in own], failed)
    return TranslatedCohort(tuple(translated), tuple(unchanged), failed)


def _outputs(volumes: Sequence[FoundVolume], target: str) -> list[PurePosixPath]:
    """Return the path of each volume's output in the dataset; raise UsageError if two volumes share one."""
    taken: dict[PurePosixPath, str] = {}
    for found in volumes:
        path = derivative_path(found.name, target)
        if path in taken:
            raise UsageError(
                f"{taken[path]!r} and {found.name!r} would both become {path}: rename one, or translate them separately"
            )
        taken[path] = found.name
    return list(taken)


def _marker(
    found: FoundVolume, bundles: Sequence[ModelBundle], target: str, options: TranslationOptions
) -> dict[str, Any]:
    """Return what an output depends on; an output with the same marker is kept."""
    settings = dataclasses.asdict(options.computing) | {"to": target, "reading": _reading_given(options)}
    for name in ("device", "batch_size"):
        settings.pop(name, None)
    return {
        "input": hash_json([_stamp(path) for path in found.files]),
        "model": [bundle.fingerprint for bundle in bundles],
        "settings": hash_json(settings),
    }


def _reading_given(options: TranslationOptions) -> dict[str, Any]:
    """Return the reading options that differ from the defaults of a translation."""
    allowed = {"allow_synthetic": True} if options.allow_synthetic else {}
    return {**options.reading.given(), **allowed}


def _stamp(path: Path) -> list[int]:
    with contextlib.suppress(OSError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return []


def _is_current(out: Path, relative: PurePosixPath, wanted: dict[str, Any], options: TranslationOptions) -> bool:
    """Return whether an output is up to date; raise WriteError if it is not and may not be replaced."""
    marker = _marker_path(out, relative)
    try:
        found = json.loads(marker.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if not (out / relative).exists():
        return False
    if found == wanted:
        return True
    changed = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
    if not options.overwrite:
        raise WriteError(
            f"{relative} was made with another {' and '.join(changed)}: choose another --out, or pass --overwrite"
        )
    return False


def _translate(
    found: FoundVolume, out: Path, relative: PurePosixPath, bundles: Sequence[ModelBundle], options: TranslationOptions
) -> Path:
    if found.refused is not None:
        raise ReadError(found.refused)
    fields = {
        "Description": f"Synthetic {options.to} image, translated by a CycleGAN; research only, not a medical device",
        "GeneratedBy": generated_by(bundles[0].fingerprint),
        "Sources": [f"bids:{RAW}:{found.relative_path.as_posix()}"],
        "SkullStripped": _is_skull_stripped(found),
    }
    reading = dataclasses.replace(options.reading, series=found.series_uid or options.reading.series)
    # An output without a marker was left by a killed process and can be replaced.
    own = dataclasses.replace(options, overwrite=True, reading=reading, sidecar_fields=fields)
    translate_file(found.path, out / relative, bundles, own)
    return out / relative


def _is_skull_stripped(found: FoundVolume) -> bool:
    """Return ``SkullStripped`` of the source's sidecar; False without it, because raw images are not skull-stripped."""
    name = found.path.name.split(".")[0]
    try:
        return bool(json.loads(found.path.with_name(f"{name}.json").read_text("utf-8")).get("SkullStripped", False))
    except (OSError, ValueError, AttributeError):
        return False


def _marker_path(out: Path, relative: PurePosixPath) -> Path:
    return out / ".done" / f"{relative.name.split('.')[0]}.json"
