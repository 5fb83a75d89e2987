"""Translate every volume in folders into a folder of results, each in the format of its input."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from medcyclegan.cohort.ledger import LEDGER
from medcyclegan.cohort.markers import MARKERS
from medcyclegan.cohort.naming import ANONYMOUS_NAMES, NAMES, NAMES_LOCK, assign_names, folder_names
from medcyclegan.cohort.translations import Job, TranslatedCohort, sort_out, translate_jobs
from medcyclegan.errors import ReadError, UsageError, WriteError, one_line
from medcyclegan.inference import Model, TranslationOptions, load_or_suggest
from medcyclegan.io import FoundVolume, ReadOptions, find_output_format, find_volumes
from medcyclegan.io.dicom.network.remote import is_destination
from medcyclegan.io.dicom.read.series import short_uid
from medcyclegan.io.formats import WRITTEN_ENDINGS, output_ending
from medcyclegan.model import choose_target
from medcyclegan.storage import check_output

__all__ = ["find_many", "translate_folder"]

#: What may be in the folder before the first name is recorded.
_OWN_FILES = (NAMES_LOCK, MARKERS, LEDGER)


def find_many(sources: Sequence[Path], output: str, reading: ReadOptions) -> list[FoundVolume] | None:
    """Return the volumes to translate into the folder ``output``; None if ``sources`` are one volume for one output.

    One volume: a file, a folder with one DICOM series, or with ``reading.series`` that series of a folder. A file or a
    DICOM node as ``output`` means one volume too. Raises :class:`~medcyclegan.errors.UsageError` if ``sources`` cannot
    be one volume then.
    """
    known = find_output_format(Path(output))
    one_output = is_destination(output) or (known is not None and not known.holds_series)
    if not is_destination(output):
        check_output(Path(output), overwrite=True)  # a mistyped one is reported before headers are read
    if len(sources) > 1:
        if one_output:
            raise UsageError(
                f"{output} takes one volume, and {len(sources)} inputs are named: name a folder as OUT, or one IN"
            )
        if reading.series is not None:
            raise UsageError(f"--series {reading.series} chooses one series of one IN, and {len(sources)} are named")
    elif one_output or reading.series is not None or not sources[0].is_dir():
        return None
    with _messages_held() as release:
        found = find_volumes(sources if len(sources) > 1 else sources[0], reading)
        if len(sources) == 1 and (not found or (len(found) == 1 and found[0].kind == "dicom")):
            return None  # the reader reports the same, and more
        release()
    if not found:
        raise ReadError(f"{', '.join(map(str, sources))}: no volume found: check the folders")
    return found


def translate_folder(
    sources: Sequence[Path],
    volumes: Sequence[FoundVolume],
    out: Path,
    model: Model | Sequence[Model],
    options: TranslationOptions | None = None,
) -> TranslatedCohort:
    """Translate the ``volumes`` that were found in ``sources`` into the folder ``out``.

    Outputs have the format and the relative path of their inputs; series that share a folder, and all inputs with
    ``options.deidentify``, are named by counters of patients and series. The folder also has a ledger of failures and
    the markers of finished outputs; see :func:`~medcyclegan.cohort.translations.translate_jobs`.
    ``options.uncertainty`` and ``options.preview`` are folders, whose files are named like the results. Raises
    a :class:`~medcyclegan.errors.MedCycleGANError` if no volume can be translated at all.
    """
    options = options or TranslationOptions()
    _check_options(options, sources, out, len(volumes))
    _check_out(sources, out, anonymous=options.deidentify)
    if options.pseudonyms is not None and Path(os.path.realpath(options.pseudonyms)).is_relative_to(
        os.path.realpath(out)
    ):
        raise UsageError(f"--pseudonyms {options.pseudonyms} is inside {out}: keep the key file in another folder")
    bundles = load_or_suggest(model, sources[0], options.reading)
    direction = choose_target(bundles, options.to, {volume.modality for volume in volumes})
    options = dataclasses.replace(options, to=direction.target.name)
    case, recorded = (_unique(volumes, name) for name in (_case, _recorded))
    fitting, skipped = sort_out(volumes, direction, options, case)
    if not fitting:
        raise ReadError(
            f"none of the {len(volumes)} volumes is {direction.source.name}, which the model translates to "
            f"{direction.target.name} ({skipped[0].reason}): name other inputs, another --model or another --to"
        )
    choose = functools.partial(folder_names, fitting, anonymous=options.deidentify)
    names = assign_names(out, choose, fitting, file=ANONYMOUS_NAMES if options.deidentify else NAMES)
    jobs = [
        Job(
            found,
            case=case(found),
            recorded=name if options.deidentify else recorded(found),
            output=out / name,
            marker=out / MARKERS / f"{name}.json",
            uncertainty=_companion(options.uncertainty, found, name, ".nii.gz"),
            preview=_companion(options.preview, found, name, ".png"),
        )
        for found, name in zip(fitting, names, strict=True)
    ]
    _check_inputs_kept(jobs, volumes)
    return translate_jobs(jobs, skipped, out, bundles, options)


def _check_options(options: TranslationOptions, sources: Sequence[Path], out: Path, count: int) -> None:
    """Refuse one file or one series for all outputs, and folders whose files would be taken for inputs or results."""
    if options.template is not None:
        raise UsageError(
            f"--dicom-template {options.template} belongs to one volume, and IN holds {count}: translate that one alone"
        )
    for option, given in {"--uncertainty": options.uncertainty, "--preview": options.preview}.items():
        if given is None:
            continue
        folder = Path(given)
        if folder.name.lower().endswith(WRITTEN_ENDINGS) or (os.path.lexists(folder) and not folder.is_dir()):
            raise UsageError(
                f"{option} {folder} is a file, and IN holds {count} volumes: name a folder for one file per result"
            )
        real = Path(os.path.realpath(folder))
        for place in (out, *(source for source in sources if source.is_dir())):
            if real.is_relative_to(os.path.realpath(place)):
                raise UsageError(f"{option} {folder} is inside {place}, among inputs or results: name another folder")


def _companion(folder: str | Path | None, found: FoundVolume, name: str, ending: str) -> Path | None:
    """Return the file in ``folder`` that belongs to the output ``name`` of a volume."""
    if folder is None:
        return None
    stem = name.removesuffix("" if found.kind == "dicom" else output_ending(found.path, found.kind))
    return Path(folder, f"{stem}{ending}")


def _check_inputs_kept(jobs: Sequence[Job], volumes: Sequence[FoundVolume]) -> None:
    """Refuse maps and previews that would replace an input, which ``--overwrite`` never allows."""
    inputs = {os.path.realpath(file) for volume in volumes for file in volume.files}
    for job in jobs:
        for option, path in (("--uncertainty", job.uncertainty), ("--preview", job.preview)):
            if path is not None and os.path.realpath(path) in inputs:
                raise UsageError(f"{option}: {path} is an input: name another folder")


def _check_out(sources: Sequence[Path], out: Path, *, anonymous: bool) -> None:
    """Check that ``out`` is a new or empty folder, or one of earlier results of this kind, and not inside an input."""
    real = Path(os.path.realpath(out))
    for source in sources:
        if source.is_dir() and real.is_relative_to(os.path.realpath(source)):
            raise UsageError(f"{out} is inside the input folder and would be read as input: name another output")
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise WriteError(f"{out} is a file, and several volumes need a folder: name another output")
    own, other = (ANONYMOUS_NAMES, NAMES) if anonymous else (NAMES, ANONYMOUS_NAMES)
    if (out / other).is_file():
        state = "not de-identified" if anonymous else "de-identified"
        raise WriteError(f"{out} contains results that are {state}: name another folder, so that they are not mixed")
    if not (out / own).is_file() and any(path.name not in _OWN_FILES for path in out.iterdir()):
        raise WriteError(f"{out} contains other files: name a new or empty folder, or one of earlier results")


def _unique(volumes: Sequence[FoundVolume], name: Callable[[FoundVolume], str]) -> Callable[[FoundVolume], str]:
    """Return ``name``, but the path of each volume for which it returns the same as for another one of ``volumes``."""
    shared = collections.Counter(map(name, volumes))

    def unique(found: FoundVolume) -> str:
        if shared[name(found)] == 1:
            return name(found)
        return one_line(f"{found.path}, series {found.series_uid}" if found.series_uid else found.path)

    return unique


def _case(found: FoundVolume) -> str:
    """Return the name of a volume in messages; a DICOM series also has its modality and the end of its UID."""
    if found.kind != "dicom" or not found.series_uid:
        return one_line(found.name)
    return one_line(f"{found.name} ({found.modality or 'no modality'} {short_uid(found.series_uid)})")


def _recorded(found: FoundVolume) -> str:
    """Return the name of a volume in the ledger, which does not change if other series are added to its folder."""
    place = found.relative_path.as_posix() if found.relative_path.parts else found.path.name
    return f"{place}, series {found.series_uid}" if found.series_uid else found.name


@contextlib.contextmanager
def _messages_held() -> Iterator[Callable[[], None]]:
    """Hold back the messages of the search for volumes; yield the function that logs them."""
    logger = logging.getLogger(find_volumes.__module__)
    held: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        held.append(record)
        return False

    def release() -> None:
        logger.removeFilter(hold)
        for record in held:
            logger.handle(record)

    logger.addFilter(hold)
    try:
        yield release
    finally:
        logger.removeFilter(hold)
