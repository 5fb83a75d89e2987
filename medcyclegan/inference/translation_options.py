"""The options of a translation from file to file, and the checks of its outputs before any work."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan.errors import UsageError
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.io import ReadOptions, SeriesOptions, check_new_translation, check_output_format, sidecar_path
from medcyclegan.io.formats import VOLUME_ENDINGS
from medcyclegan.storage import check_output

__all__ = ["TranslationOptions", "check_outputs"]


@dataclasses.dataclass(frozen=True)
class TranslationOptions:
    """Options of :func:`~medcyclegan.inference.translate_file.translate_file`; the command's help describes each.

    An input that is labeled as synthetic is refused unless both ``allow_synthetic`` and the option of that name in
    ``reading`` are set. ``coverage``: of the intervals whose half-width is written to ``uncertainty``; None: 0.9 if the
    model is calibrated, otherwise an estimate without coverage. ``sidecar_fields``: additional fields of the sidecar,
    such as BIDS's ``Sources``.
    """

    to: str | None = None
    computing: InferenceOptions = dataclasses.field(default_factory=InferenceOptions)
    force: bool = False
    uncertainty: str | Path | None = None
    coverage: float | None = None
    preview: str | Path | None = None
    overwrite: bool = False
    template: str | Path | None = None
    deidentify: bool = False
    pseudonyms: str | Path | None = None
    reading: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    allow_synthetic: bool = False
    sidecar_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.series_options()  # refuses options that contradict each other
        if self.coverage is not None and self.uncertainty is None:
            raise UsageError("--coverage is that of the intervals in the map: add --uncertainty FILE, or leave it out")

    def series_options(self) -> SeriesOptions:
        """Return the options for writing a DICOM series."""
        return SeriesOptions(self.template, self.deidentify, self.pseudonyms)


def check_outputs(source: Path, out: Path, options: TranslationOptions) -> None:
    """Check, before any work, that every output can be written and that none destroys an existing file."""
    check_output_format(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the input: name another output")
    if not out.suffix and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} is inside the input folder and would be read as input: name another output")
    if options.template is not None and out.suffix:
        raise UsageError(f"--dicom-template is only for DICOM output, and {out} is a file: name a folder as OUT")
    if options.pseudonyms is not None:
        _check_key_place(Path(options.pseudonyms), [source, out, sidecar_path(out)])
    if options.deidentify and out.suffix:
        raise UsageError(f"--deidentify is only for DICOM output, and {out} names no patient: leave it out")
    check_new_translation(out, overwrite=options.overwrite)
    _check_companions([source, out, sidecar_path(out)], out, options)


def _check_key_place(key_file: Path, taken: list[Path]) -> None:
    """Refuse a key file that is the input, an output or inside an output folder."""
    place = Path(os.path.realpath(key_file))
    source, *outputs = (Path(os.path.realpath(path)) for path in taken)
    if place == source or any(place.is_relative_to(output) for output in outputs):
        raise UsageError(
            f"--pseudonyms {key_file} is the input, an output or in the output folder: keep the key file elsewhere"
        )


def _check_companions(taken: list[Path], out: Path, options: TranslationOptions) -> None:
    """Check that the map and the preview can be written, and that their real paths are not ``taken``."""
    # not resolve(), which raises for circular links
    names = [Path(os.path.realpath(path)) for path in taken]
    for option, given, endings in (
        ("--uncertainty", options.uncertainty, VOLUME_ENDINGS),
        ("--preview", options.preview, (".png",)),
    ):
        if given is None:
            continue
        path = Path(given)
        if not path.name.lower().endswith(endings):
            raise UsageError(f"{option} {path}: its name must end in {' or '.join(endings)}, as IN is one volume")
        if path.resolve() in names:
            raise UsageError(f"{option} {path} is the input or another output: name another file")
        if not out.suffix and path.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{option} {path} is inside {out}, which may hold only DICOM files: name another folder")
        check_output(path, overwrite=options.overwrite)
        names.append(path.resolve())
