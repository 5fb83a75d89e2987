"""One volume in memory: an array and the position of its voxels in the patient."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, one_line

__all__ = ["LPS_RAS", "Derivation", "Volume"]

#: The change of world axes between LPS+ (DICOM, ITK) and RAS+ (NIfTI, this package), 4 x 4; its own inverse.
LPS_RAS: NDArray[np.float64] = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_RAS.flags.writeable = False

#: The letter at the positive end of each world axis of RAS+, and at its negative end.
_POSITIVE, _NEGATIVE = "RAS", "LPI"


@dataclasses.dataclass(frozen=True)
class Derivation:
    """How a volume was made from another one; written into the output.

    ``source_domain``, ``target_domain``
        The model's names of the input and output domains, such as ``"t1"`` and ``"ct"``.
    ``source_modality``
        The input's modality, if known (``"MR"``), else None.
    ``model_sha256``
        The SHA-256 of the model.
    ``version``
        The version of medcyclegan.
    ``input_sha256``
        :meth:`Volume.content_sha256` of the input.
    ``settings``
        Everything else that changes the values, as text (``"median of three planes"``). Together with the fields above
        it determines the UIDs of a DICOM output, so that translating one input twice in the same way gives the same
        series.
    ``record``
        The content of the JSON file next to an output, as JSON values, with the measured quality; None if the program
        that translated the volume did not keep it. It has no influence on UIDs.
    """

    source_domain: str
    target_domain: str
    source_modality: str | None
    model_sha256: str
    version: str
    input_sha256: str
    settings: tuple[str, ...] = ()
    record: Mapping[str, Any] | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """A scalar image volume ``(I, J, K)`` with its affine, voxel indices to RAS+ millimetres.

    ``array``
        The values, shape ``(I, J, K)``: stored value x slope + intercept, nothing else.
    ``affine``
        4 x 4, float64: ``affine @ (i, j, k, 1)`` is the center of voxel ``(i, j, k)`` in mm, in
        RAS+ (x grows towards the patient's right hand, y to anterior, z to superior). May be oblique,
        left-handed or sheared (a tilted gantry).
    ``modality``
        ``"CT"``, ``"MR"``, another DICOM Modality (0008,0060), or None if the file does not say.
    ``value_range``
        The range of the stored type, for 2-D images (8 bits: ``(0, 255)``); else None.
    ``source``
        Metadata that the reader keeps for writing a matching output (a NIfTI header, the DICOM headers). Only
        ``medcyclegan.io`` uses it.
    ``notes``
        What was logged while reading, one sentence each: skipped files, resampling, a tilt.
    ``derivation``
        How the values were made from another volume; None for a volume that was read.
    ``synthetic``
        Whether the file that it was read from, or its JSON sidecar, marks the values as synthetic.

    Raises :class:`~medcyclegan.errors.GeometryError` for an array that is not 3-D, an empty one, or
    an affine that is singular or not finite.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    modality: str | None = None
    value_range: tuple[float, float] | None = None
    source: object | None = None
    notes: tuple[str, ...] = ()
    derivation: Derivation | None = None
    synthetic: bool = False

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise GeometryError(
                f"an array of shape {self.array.shape}",
                remedy=(
                    "a volume has three axes, none of them empty; "
                    "add an axis of length 1 to a single slice, choose one volume of a 4-D array"
                ),
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"an affine of shape {affine.shape}", remedy="it must be 4 x 4 and finite")
        if not np.allclose(affine[3], (0, 0, 0, 1)) or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError(
                "the affine is singular or has no (0, 0, 0, 1) in its last row, so voxels have no position in space",
                remedy="repair the header's sform or qform",
            )
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        """Describe the grid and the values in one line, without anything from the file's header that names a patient.

        >>> Volume(np.zeros((4, 5, 6), np.int16), np.diag([0.5, 0.5, 3.0, 1.0]), modality="CT")
        Volume(4 x 5 x 6 int16, 0.5 x 0.5 x 3 mm, RAS, CT)
        """
        facts = [
            f"{' x '.join(map(str, self.shape))} {self.array.dtype}",
            f"{' x '.join(f'{mm:.4g}' for mm in self.spacing_mm)} mm",
            self.orientation,
            *([one_line(self.modality)] if self.modality else []),
            *(["synthetic"] if self.is_synthetic else []),
            *([f"quality {self.quality.get('verdict')}"] if self.quality else []),
        ]
        return f"Volume({', '.join(facts)})"

    @property
    def quality(self) -> Mapping[str, Any] | None:
        """The measured quality of a translation: its ``verdict`` (ok, check, doubtful), ``reasons`` and measurements.

        As in the JSON file next to an output; None for a volume that was not translated, or not assessed.
        """
        record = self.derivation and self.derivation.record
        quality: Mapping[str, Any] | None = record.get("quality") if record else None
        return quality

    @property
    def is_synthetic(self) -> bool:
        """Whether the values are synthetic: translated here, or read from a file that is marked as synthetic."""
        return self.synthetic or self.derivation is not None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of voxels along each axis, ``(I, J, K)``."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between neighboring voxel centers along each array axis, in mm."""
        i, j, k = (float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @property
    def orientation(self) -> str:
        """The axis codes, such as ``"LPS"``: the patient direction in which each array index grows.

        For an oblique volume the closest axes, each patient axis used once, the best match first:
        the rule of nibabel's ``io_orientation``, so that both always agree.
        """
        direction = self.affine[:3, :3] / np.array(self.spacing_mm)
        left, _, right = np.linalg.svd(direction)
        closeness = left @ right
        codes = ["", "", ""]
        for axis in np.argsort(np.min(-(closeness**2), axis=0), kind="stable"):
            world = int(np.argmax(np.abs(closeness[:, axis])))
            letters = _POSITIVE if closeness[world, axis] > 0 else _NEGATIVE
            codes[int(axis)] = letters[world]
            closeness[world, :] = 0
        return "".join(codes)

    @property
    def oblique_degrees(self) -> float:
        """The largest angle, in degrees, between an array axis and its closest patient axis."""
        cosines = np.abs(self.affine[:3, :3] / np.array(self.spacing_mm)).max(axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0))).max())

    @property
    def shear_degrees(self) -> float:
        """The deviation of the array axes from perpendicular, in degrees: the tilt of a gantry, else 0."""
        direction = self.affine[:3, :3] / np.array(self.spacing_mm)
        cosines = np.abs(direction.T @ direction - np.eye(3)).max()
        return float(np.degrees(np.arcsin(np.clip(cosines, 0.0, 1.0))))

    def content_sha256(self) -> str:
        """Return the SHA-256 of the shape, type, affine and values, in hexadecimal."""
        digest = hashlib.sha256(repr((self.shape, self.array.dtype.str)).encode())
        digest.update(self.affine.tobytes())
        for k in range(self.shape[2]):
            digest.update(np.ascontiguousarray(self.array[:, :, k]).data)
        return digest.hexdigest()

    def replace(self, **changes: Any) -> Volume:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)
