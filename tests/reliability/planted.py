"""Inputs that carry a marker in every text, date, time, age, UID and file name; and the search for it in every byte."""

from __future__ import annotations

import base64
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from support import dicom_phantoms as made

from medcyclegan.manifest import KEY_FILE
from medcyclegan.volume import Volume

#: In names of files and folders.
IN_NAMES = "QZNAME7"
#: In texts, dates, times, ages and UIDs of headers.
IN_HEADERS = ("QZMARK7", "19031127", "231759", "117Y", "7242427")
_TEXTS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "PN": 64, "LT": 200, "ST": 200, "UC": 200, "UT": 200, "UR": 60}
_FIXED = {"DA": "19031127", "TM": "231759", "DT": "19031127231759", "AS": "117Y"}
#: What a reader decides by; a marker there is a refusal, which :func:`plant` must not cause.
_DECIDING = {
    "SOPClassUID", "Modality", "ImageType", "PhotometricInterpretation", "RescaleType", "SpecificCharacterSet",
    "PixelPaddingRangeLimit", "FrameType", "PixelPresentation", "ImageTypeSequence", "LossyImageCompression",
    "VolumetricProperties", "ComplexImageComponent", "PresentationLUTShape", "ModalityLUTType",
    "QueryRetrieveLevel", "DirectoryRecordType", "AnatomicalOrientationType", "DataSetTrailingPadding",
}  # fmt: skip


def plant(dataset: Dataset) -> int:
    """Set every element of the standard whose value is text, date, time, age or UID; return how many."""
    count = 0
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if not keyword or keyword in _DECIDING or retired or group in (0, 2, 4, 0xFFFE) or group >= 0x7FE0:
            continue
        value = _marked(vr.split(" ")[0], tag)
        if value is not None and not re.fullmatch(r"[2-9]\d*(-\w+)?", multiplicity):
            dataset.add_new(tag, vr.split(" ")[0], value)
            count += 1
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, keyword, f"1.2.826.0.1.7242427.{DicomKeyword[keyword]}")
    item = Dataset()
    item.PatientName, item.CodeMeaning, item.StudyDate = "QZMARK7^NESTED", "QZMARK7", "19031127"
    for keyword in ("ReferencedStudySequence", "ProcedureCodeSequence", "RequestAttributesSequence"):
        setattr(dataset, keyword, Items([item]))
    block = dataset.private_block(0x0029, "QZMARK7 HEADER", create=True)
    block.add_new(1, "LO", "QZMARK7 PRIVATE")
    return count + 1


DicomKeyword = {entry[4]: tag for tag, entry in DicomDictionary.items()}


def _marked(vr: str, tag: int) -> str | None:
    if vr in _TEXTS:
        return f"QZMARK7 {tag:08X}"[: _TEXTS[vr]] if vr != "UR" else "http://QZMARK7.invalid"
    return _FIXED.get(vr, f"1.2.826.0.1.7242427.{tag}" if vr == "UI" else None)


def write_series(volume: Volume, folder: Path, seed: str) -> int:
    """Write a series with the marker in everything; return the number of marked elements of a slice."""
    count = 0
    slices = made.slices_of(volume, seed=seed)
    for number, dataset in enumerate(slices):
        count = plant(dataset)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.7242427.{seed}.{number}"
        dataset.SeriesInstanceUID = f"1.2.826.0.1.7242427.{seed}"
        dataset.PatientID = f"QZMARK7 {seed}"
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.826.0.1.7242427.1"
        dataset.file_meta.PrivateInformation = b"QZMARK7."
        dataset.file_meta.SourceApplicationEntityTitle = "QZMARK7"
        dataset.preamble = b"QZMARK7".ljust(128, b"\0")
    made.save(slices, folder, name=lambda number: f"{IN_NAMES}-{number:03d}.dcm")
    return count


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a NIfTI file with the marker in its free texts, in an extension, in the gzip's header and its sidecar."""
    image = nib.Nifti1Image(volume.array, volume.affine)
    for field in ("descrip", "aux_file", "intent_name", "data_type", "db_name"):
        image.header[field] = b"QZMARK7"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"QZMARK7 19031127"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile("QZMARK7.nii", "wb", fileobj=file, mtime=0) as packed:
        packed.write(image.to_bytes())
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    sidecar.write_text('{"Modality": "MR", "PatientName": "QZMARK7", "AcquisitionTime": "231759"}', "utf-8")


def find(folder: Path, markers: tuple[str, ...]) -> list[str]:
    """Return where a marker is found: in the names and in every byte of the files below ``folder``, unpacked too.

    A private key file is passed over in a slice store that has its key, which is not a copy, if only its owner can read
    it.
    """
    patterns = [code for marker in markers for code in (marker.encode(), marker.encode("utf-16-le"))]
    wanted = re.compile(b"|".join(map(re.escape, patterns)))
    hits = []
    for path in sorted(folder.rglob("*")):
        names = (path.name, str(path.readlink()) if path.is_symlink() else "")
        hits += [f"{path.relative_to(folder)} (name)" for name in names if any(m in name for m in markers)]
        is_private = path.name == KEY_FILE and path.with_name(".key").exists() and path.stat().st_mode & 0o777 == 0o600
        if path.is_file() and not is_private:
            for part, content in _contents(path):
                found = wanted.search(content)
                if found:
                    hits.append(f"{path.relative_to(folder)}{part}: ...{content[max(0, found.start() - 40) :][:80]!r}")
    return hits


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    data = path.read_bytes()
    yield "", data
    if data[:2] == b"\x1f\x8b":
        yield " (unpacked)", gzip.decompress(data)
    elif data[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield f" ({name})", archive.read(name)
    elif data[:4] == b"\x89PNG":
        for found in re.finditer(rb"(?:zTXt|iTXt|iCCP)[^\0]*\0+", data):
            yield " (PNG text)", zlib.decompressobj().decompress(data[found.end() :], 1 << 20)
    for found in re.finditer(rb"[A-Za-z0-9+/]{64,}={0,2}", data) if path.suffix in (".html", ".js") else ():
        block = base64.b64decode(found[0][: len(found[0]) // 4 * 4])
        yield " (base64)", gzip.decompress(block) if block[:2] == b"\x1f\x8b" else block


def values_of(volume: Volume) -> np.ndarray:
    """Return the volume's values, for comparing."""
    return np.asarray(volume.array, np.float64)
