"""Folders of synthetic DICOM: compression, damaged files, and enhanced multi-frame images."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)
from support import dicom_phantoms as made
from support.dicom_cases import Case, collector, saved

from medcyclegan.volume import Volume

FILE_CASES: list[Case] = []
case = collector(FILE_CASES)


def _compressed(folder: Path, syntax: UID) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.compress(syntax)

    return saved(folder, made.placed_volume(), change, syntax=syntax)


@case("RLE", "right")
def _(folder: Path) -> Volume:
    return _compressed(folder, RLELossless)


@case("JPEG-LS", "right")
def _(folder: Path) -> Volume:
    return _compressed(folder, JPEGLSLossless)


def recoded(folder: Path, kind: str) -> None:
    """Compress the files of a folder with GDCM, in place; ``kind`` is GDCM's name of the transfer syntax."""
    import gdcm

    for path in sorted(folder.iterdir()):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()


@case("JPEG 2000", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    recoded(folder, "JPEG2000Lossless")
    assert JPEG2000Lossless.encode() in next(folder.iterdir()).read_bytes()
    return volume


@case("JPEG lossless", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    recoded(folder, "JPEGLosslessProcess14_1")
    assert JPEGLosslessSV1.encode() in next(folder.iterdir()).read_bytes()
    return volume


@case("junk in the folder", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(range(256)) * 4)
    (folder / "readme.txt").write_text("made\n")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "short.dcm").write_bytes(b"DICM")
    return volume


@case("DICOMDIR in the folder", "right")
def _(folder: Path) -> Volume:
    volume = saved(folder, made.placed_volume())
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["directory"])
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "MADE"
    for name in ("DICOMDIR", "IM9999.dcm"):
        dcmwrite(folder / name, directory, enforce_file_format=True)
    return volume


def _cut(folder: Path, number: int, keep: Callable[[bytes], int]) -> Volume:
    volume = saved(folder, made.placed_volume())
    path = folder / f"IM{number:04d}.dcm"
    data = path.read_bytes()
    path.write_bytes(data[: keep(data)])
    return volume


@case("pixels cut short", "refused")
def _(folder: Path) -> Volume:
    return _cut(folder, 5, lambda data: len(data) - 100)


@case("header cut short", "refused")
def _(folder: Path) -> Volume:
    return _cut(folder, 10, lambda data: data.index(b"\x20\x00\x32\x00") + 11)


@case("no FrameOfReferenceUID", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for dataset in slices:
            del dataset.FrameOfReferenceUID

    return saved(folder, made.placed_volume(), change)


@case("jitter of 0.01 mm in position", "either", {"allow_gap": True})
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        noise = np.random.default_rng(4).uniform(-0.01, 0.01, (len(slices), 3))
        for dataset, shift in zip(slices, noise, strict=True):
            place = np.array(dataset.ImagePositionPatient, dtype=float) + shift
            dataset.ImagePositionPatient = [f"{value:.8f}" for value in place]

    return saved(folder, made.placed_volume(), change)


@case("jitter of 1e-6 in orientation", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        noise = np.random.default_rng(5).uniform(-1e-6, 1e-6, (len(slices), 6))
        for dataset, shift in zip(slices, noise, strict=True):
            cosines = np.array(dataset.ImageOrientationPatient, dtype=float) + shift
            dataset.ImageOrientationPatient = [f"{value:.10f}" for value in cosines]

    return saved(folder, made.placed_volume(), change)


@case("12 bits with dirty high bits", "right")
def _(folder: Path) -> Volume:
    def change(slices: list[Dataset]) -> None:
        for k, dataset in enumerate(slices):
            dataset.BitsStored, dataset.HighBit = 12, 11
            dataset.PixelData = (made.stored_values(dataset) | np.uint16((k % 16) << 12)).tobytes()

    return saved(folder, made.placed_volume(), change)


@case("enhanced multi-frame", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    made.save([made.enhanced_of(volume)], folder)
    return volume


@case("enhanced multi-frame, frames shuffled", "right")
def _(folder: Path) -> Volume:
    volume = made.placed_volume(modality="MR")
    dataset = made.enhanced_of(volume)
    made.reorder_frames(dataset, random.Random(6).sample(range(volume.shape[2]), volume.shape[2]))
    made.save([dataset], folder)
    return volume
