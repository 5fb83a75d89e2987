"""MetaImage and NRRD files for tests, written by SimpleITK or byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from support.phantoms import LPS_RAS

from medcyclegan.volume import Volume


def to_image(volume: Volume) -> sitk.Image:
    """Return ``volume`` as an image of SimpleITK, in LPS+."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    affine = LPS_RAS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def write_mha(path: Path, fields: dict[str, str | None], values: np.ndarray) -> Path:
    """Write a MetaImage without a library; ``fields`` replace those of its header, None removes one."""
    header: dict[str, str | None] = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "10 20 30",
        "ElementSpacing": "1 2 3", "DimSize": "4 5 6", "ElementType": "MET_SHORT",
    }  # fmt: skip
    header |= fields
    data_file = header.pop("ElementDataFile", "LOCAL")
    lines = [f"{name} = {value}" for name, value in header.items() if value is not None]
    text = "\n".join([*lines, f"ElementDataFile = {data_file}", ""])
    path.write_bytes(text.encode() + values.tobytes(order="F"))
    return path


def write_nrrd(path: Path, fields: dict[str, str | None], values: np.ndarray) -> Path:
    """Write a NRRD without a library; ``fields`` replace those of its header, None removes one."""
    header: dict[str, str | None] = {
        "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 5 6",
        "space directions": "(1,0,0) (0,2,0) (0,0,3)", "kinds": "domain domain domain", "endian": "little",
        "encoding": "raw", "space origin": "(10,20,30)",
    }  # fmt: skip
    header |= fields
    lines = ["NRRD0005", "# a comment", *(f"{name}: {value}" for name, value in header.items() if value is not None)]
    path.write_bytes(("\n".join([*lines, "key:=value", "", ""])).encode() + values.tobytes(order="F"))
    return path
