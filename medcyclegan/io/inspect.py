"""What lies in a tree, from headers alone: a row per series or file, and whether it can be read."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, IntensityError, MedCycleGANError, ReadError
from medcyclegan.io.discover import PAIR_REFUSED, kind_of_file
from medcyclegan.io.links import BROKEN_LINK, check_exists, is_broken_link
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.synthetic import check_synthetic
from medcyclegan.progress import progress_bar
from medcyclegan.volume import Volume

__all__ = ["InspectedVolume", "Inspection", "Verdict", "geometry_fields", "inspect_paths", "with_synthetic"]

Verdict = Literal["ok", "ok with options", "refused", "left out"]

#: What other programs assume where a header does not say which axis points where: the advice of the refusal.
_ASSUMED_AXES = {"nifti": "LAS", "itk": "LPS"}


@dataclasses.dataclass(frozen=True)
class InspectedVolume:
    """One series or file, and what reading it would give.

    ``path`` is as the user named it; ``files`` how many it has. ``volumes`` counts echoes, phases or time points.
    ``gap_mm`` is the smallest and the largest distance between neighbouring slices, along their normal;
    ``orientation`` the patient directions in which array indices grow, such as ``LPS``; ``oblique_degrees`` how far
    the axes are from them. ``options`` are those that the verdict ``ok with options`` needs; ``reason`` is the
    sentence of the refusal, remedy included; ``notes`` what reading would say aloud. ``synthetic``: it says of itself
    that it was not acquired. None where nothing is known.
    """

    path: str
    kind: str
    verdict: Verdict
    files: int = 1
    options: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    series_uid: str | None = None
    series_number: str | None = None
    description: str | None = None
    modality: str | None = None
    columns: int | None = None
    rows: int | None = None
    slices: int | None = None
    volumes: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    gap_mm: tuple[float, float] | None = None
    orientation: str | None = None
    oblique_degrees: float | None = None
    transfer_syntax: str | None = None
    synthetic: bool = False

    @property
    def remedy(self) -> str:
        """What the refusal advises: what stands behind its last colon."""
        return self.reason.rpartition(": ")[2]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The volumes of a tree, in the order of their paths, and what else lies there: reason to number of files."""

    volumes: tuple[InspectedVolume, ...]
    others: dict[str, int]


def inspect_paths(paths: Sequence[Path], options: ReadOptions) -> Inspection:
    """Look at every file below ``paths``, reading headers only.

    Raises :class:`~medcyclegan.errors.ReadError` where a path is missing or a folder cannot be listed; whatever is
    wrong with a file is in its row.
    """
    from medcyclegan.io.dicom.read.headers import walk_files

    files: dict[Path, None] = {}
    for path in paths:
        check_exists(path)
        files |= dict.fromkeys(walk_files(path) if path.is_dir() else [path])
    rows: list[InspectedVolume] = []
    others: Counter[str] = Counter()
    dicom: list[Path] = []
    with progress_bar("looking", len(files)) as bar:
        for file in files:
            kind = kind_of_file(file)
            if kind == "dicom":
                dicom.append(file)
                continue
            bar.advance()
            if kind is None:
                what = "broken symbolic link" if is_broken_link(file) else "no volume"
                others[f"{what} ({file.suffix.lower() or 'no suffix'})"] += 1
            elif is_broken_link(file):
                rows.append(InspectedVolume(file.as_posix(), kind, "refused", reason=BROKEN_LINK.format(file.name)))
            else:
                rows.append(_inspect_file(file, kind, options))
        if dicom:
            from medcyclegan.io.dicom.inspect import inspect_dicom

            named = frozenset(path for path in paths if not path.is_dir())
            found, beside = inspect_dicom(dicom, options, lambda _path: bar.advance(), named=named)
            rows += found
            others += beside
    return Inspection(tuple(sorted(rows, key=_order)), dict(sorted(others.items())))


def geometry_fields(affine: NDArray[np.float64]) -> dict[str, Any]:
    """Return spacing, orientation and obliqueness of an affine as fields of a row."""
    grid = Volume(np.zeros((1, 1, 1), dtype=np.uint8), affine)
    return {
        "spacing_mm": tuple(round(value, 4) for value in grid.spacing_mm),
        "orientation": grid.orientation,
        "oblique_degrees": round(grid.oblique_degrees, 2),
    }


def _order(row: InspectedVolume) -> tuple[Any, ...]:
    number = row.series_number or ""
    return (row.path, int(number) if number.isdecimal() else 0, number, row.series_uid or "")


def _inspect_file(path: Path, kind: str, options: ReadOptions) -> InspectedVolume:
    name = path.as_posix()
    if kind == "pair":
        return InspectedVolume(name, "nifti", "refused", reason=PAIR_REFUSED.format(path.name))
    look = {"nifti": _look_at_nifti, "image": _look_at_picture, "itk": _look_at_itk}[kind]
    needed: list[str] = []
    reasons: list[str] = []
    try:
        try:
            fields = look(path, options)
        except GeometryError as error:
            if options.assume_axes is not None or kind not in _ASSUMED_AXES:
                raise
            reasons.append(str(error))
            fields = look(path, dataclasses.replace(options, assume_axes=_ASSUMED_AXES[kind]))
            needed.append(f"--assume-axes {_ASSUMED_AXES[kind]}")
    except MedCycleGANError as error:
        return InspectedVolume(name, kind, "refused", reason=[*reasons, str(error)][0])
    except OSError as error:
        return InspectedVolume(name, kind, "refused", reason=f"{name}: {error.strerror or error}: check the file")
    volumes = fields["volumes"]
    if volumes > 1 and options.volume is None:
        reasons.append(f"{name}: a 4-D file of {volumes} volumes: choose one with --volume N, 0 to {volumes - 1}")
        needed.append("--volume N")
    verdict: Verdict = "ok with options" if needed else "ok"
    why = fields.pop("why_synthetic")
    row = InspectedVolume(name, kind, verdict, options=tuple(needed), reason="; ".join(reasons), **fields)
    return with_synthetic(row, why, options)


def with_synthetic(row: InspectedVolume, why: str, options: ReadOptions) -> InspectedVolume:
    """Return the row of a volume that can be read, with what it means that it is synthetic (``why``, else empty)."""
    row = dataclasses.replace(row, synthetic=bool(why))
    try:
        if check_synthetic(why, options, row.path):
            return dataclasses.replace(row, notes=(*row.notes, f"{why} says that it is synthetic, not acquired"))
    except IntensityError as error:
        reason = f"{row.reason}; {error}" if row.reason else str(error)
        needed = (*row.options, "--allow-synthetic")
        return dataclasses.replace(row, verdict="ok with options", options=needed, reason=reason)
    return row


def _look_at_nifti(path: Path, options: ReadOptions) -> dict[str, Any]:
    from medcyclegan.io.nifti.read import read_nifti_facts

    facts = read_nifti_facts(path, options)
    columns, rows, slices = (*facts.shape, 1, 1)[:3]
    return {
        "columns": columns,
        "rows": rows,
        "slices": slices,
        "volumes": facts.volumes,
        "modality": facts.modality,
        "notes": facts.notes,
        "why_synthetic": facts.why_synthetic,
        **geometry_fields(facts.affine),
    }


def _look_at_picture(path: Path, options: ReadOptions) -> dict[str, Any]:
    from PIL import Image

    from medcyclegan.io.images import IMAGE_AFFINE, why_synthetic_image

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            columns, rows, frames = image.width, image.height, getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ReadError(f"{path}: not a PNG or JPEG picture ({error}): copy or export it again") from error
    if frames > 1:
        raise ReadError(f"{path}: {frames} pictures in one file (animated): save the one that is meant")
    if columns * rows > options.max_voxels:
        raise ReadError(
            f"{path}: {columns} x {rows} pixels, more than {options.max_voxels}: "
            f"if that is right, pass --max-voxels {columns * rows}"
        )
    why = why_synthetic_image(path)
    size = {"columns": columns, "rows": rows, "slices": 1, "volumes": 1}
    return {**size, "why_synthetic": why, **geometry_fields(IMAGE_AFFINE)}


def _look_at_itk(path: Path, options: ReadOptions) -> dict[str, Any]:
    from medcyclegan.io.itk.read import read_itk_facts
    from medcyclegan.io.notes import Notes

    facts = read_itk_facts(path, options, Notes(None, path.name))
    columns, rows, slices = (*facts.shape, 1, 1)[:3]
    return {
        "columns": columns,
        "rows": rows,
        "slices": slices,
        "volumes": facts.volumes,
        "modality": facts.place.modality,
        "notes": facts.notes,
        "why_synthetic": facts.why_synthetic,
        **geometry_fields(facts.affine),
    }
