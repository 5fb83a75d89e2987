"""A reader for MONAI: ``LoadImage(reader=VolumeReader())`` reads every format of this package.

Import this module by name: it needs MONAI, which the rest of ``medcyclegan.io`` does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError, MedCycleGANError, ReadError
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_with_options
from medcyclegan.volume import Volume

__all__ = ["VolumeReader"]

PathLikes = Sequence[str | PathLike[str]] | str | PathLike[str]


class VolumeReader(ImageReader):
    """A ``monai.data.ImageReader`` for volumes of any format, DICOM folders among them.

    ``options`` are those of :func:`~medcyclegan.io.read.read_volume`, such as ``allow_gap=True``. Arrays come as
    ``(I, J, K)``, a single slice as ``(I, J, 1)``; ``affine`` in the metadata takes voxels to RAS+ mm. Several paths
    at once become channels, ``(C, I, J, K)``, if they have the same grid.

    If a reader raises, ``LoadImage`` tries other readers, which may return a wrong volume for a refused file. So
    an error is kept by :meth:`read` and raised by :meth:`get_data`, whose errors ``LoadImage`` does not catch.
    """

    def __init__(self, **options: Any) -> None:
        self.options = ReadOptions(**options)

    def verify_suffix(self, filename: PathLikes) -> bool:
        """Whether every path, by its name or first bytes, has a readable format."""
        try:
            for path in _paths(filename):
                find_format(path)
        except ReadError:
            return False
        return True

    def read(self, data: PathLikes, **kwargs: Any) -> list[Volume] | MedCycleGANError:
        """Read the volumes at one or several paths; an error is returned, not raised (see the class)."""
        try:
            options = dataclasses.replace(self.options, **kwargs)
            return [read_with_options(path, options) for path in _paths(data)]
        except MedCycleGANError as error:
            return error

    def get_data(self, img: list[Volume] | MedCycleGANError) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the array and its metadata. Raises the error that :meth:`read` kept."""
        if isinstance(img, MedCycleGANError):
            raise img
        first = img[0]
        for volume in img[1:]:
            if volume.shape != first.shape or not np.allclose(volume.affine, first.affine, atol=1e-3):
                raise GeometryError(
                    f"volumes of {first.shape} and {volume.shape} voxels are not on one grid, so they cannot be "
                    "channels of one image",
                    remedy="load them separately and resample one",
                )
        array = first.array if len(img) == 1 else np.stack([volume.array for volume in img])
        meta = {
            MetaKeys.AFFINE.value: first.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE.value: first.affine.copy(),
            MetaKeys.SPATIAL_SHAPE.value: np.array(first.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM.value: float("nan") if len(img) == 1 else 0,
            MetaKeys.SPACE.value: SpaceKeys.RAS,
            "modality": first.modality or "",
        }
        return array, meta


def _paths(data: PathLikes) -> list[Path]:
    given = [data] if isinstance(data, str | PathLike) else list(data)
    return [Path(path) for path in given]
