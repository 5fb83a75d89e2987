"""Read the stored values of frames into one array, directly or decoded by pydicom, and rescale them.

Copies are avoided: native pixels are read from the file into the array, and become int16 in place.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from medcyclegan.errors import MissingExtraError, ReadError
from medcyclegan.io.dicom.read.frames import Frame, Image, PixelFormat
from medcyclegan.io.dicom.read.headers import inflate_file
from medcyclegan.io.dicom.values import PARSE_ERRORS, quiet, short_reason
from medcyclegan.io.notes import Notes

__all__ = ["check_readable", "read_frames", "rescale_frames", "same_pixels"]

_DEFLATED, _BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
#: Exactly one decoder is used: a second, more tolerant one might accept what the first refused.
_PLUGINS = ("pylibjpeg", "pyjpegls", "gdcm", "pydicom", "pillow")
#: Syntaxes whose frames end with the marker FF D9 (JPEG, JPEG-LS, JPEG 2000 and its high-throughput variant).
_ENDS_WITH_MARKER = "1.2.840.10008.1.2.4."
_INT16 = np.iinfo(np.int16)
_STORED: dict[int, np.dtype[Any]] = {8: np.dtype("<u1"), 16: np.dtype("<u2"), 32: np.dtype("<u4")}


def check_readable(image: Image) -> None:
    """Refuse pixel data whose length is not what the header claims, or that this installation cannot decode.

    Raises :class:`~medcyclegan.errors.MissingExtraError`, naming the extra, or
    :class:`~medcyclegan.errors.ReadError`.
    """
    pixels = image.pixel_format
    if image.pixel_length is not None:
        expected = _frame_size(pixels) * image.number_of_frames
        if image.pixel_length != expected + expected % 2:
            raise ReadError(
                f"{image.path.name}: {image.pixel_length} bytes of pixel data where {image.number_of_frames} frames of "
                f"{pixels.rows} x {pixels.columns} take {expected}",
                remedy="damaged, export the series again",
            )
        return
    name = UID(image.transfer_syntax).name
    try:
        decoder = get_decoder(UID(image.transfer_syntax))
    except NotImplementedError as error:
        raise ReadError(f"{name} is not decoded here", remedy="save the series uncompressed first") from error
    if not decoder.is_available:
        raise MissingExtraError(
            f"{name} needs a decoder that is not installed", remedy="pip install 'medcyclegan[jpeg]'"
        )


def read_frames(frames: Sequence[Frame], notes: Notes) -> NDArray[Any]:
    """Return the stored values of ``frames``, ``(K, rows, columns)``, unsigned or signed as the header says.

    Bits above the stored ones are cleared. Raises :class:`~medcyclegan.errors.ReadError` for pixel data that do not
    have the length or the shape that the header claims, and
    :class:`~medcyclegan.errors.MissingExtraError` if a decoder is not installed.
    """
    first = frames[0]
    pixels = first.image.pixel_format
    stored = np.empty((len(frames), first.rows, first.columns), dtype=_STORED[pixels.bits_allocated])
    by_file: dict[Path, list[int]] = {}
    for number, frame in enumerate(frames):
        by_file.setdefault(frame.image.path, []).append(number)
    for path, wanted in by_file.items():
        try:
            _read_file([frames[number] for number in wanted], stored, wanted)
        except ReadError as error:
            raise ReadError.from_error(f"{path.name}: ", error) from error
        except OSError as error:
            raise ReadError(f"{path.name} cannot be read: {error.strerror or error}") from error
    return _stored_bits_only(stored, pixels, notes)


def rescale_frames(stored: NDArray[Any], frames: Sequence[Frame]) -> NDArray[Any]:
    """Return stored value x slope + intercept, frame by frame: int16 if all values are whole and fit, else float32.

    ``stored`` is overwritten: the result reuses its memory if possible.
    """
    whole = all(frame.slope == int(frame.slope) and frame.intercept == int(frame.intercept) for frame in frames)
    if whole and _fits_int16(stored, frames):
        return _rescale_whole(stored, frames)
    values = np.empty(stored.shape, dtype=np.float32)
    for k, frame in enumerate(frames):
        if frame.slope == 1 and frame.intercept == 0:
            values[k] = stored[k]
        else:
            values[k] = stored[k] * np.float64(frame.slope) + frame.intercept
    return values


def same_pixels(first: Frame, second: Frame) -> bool:
    """Whether two frames have the same pixel data: byte for byte, or decoded if they are coded differently.

    Raises :class:`~medcyclegan.errors.ReadError` if a file cannot be read or decoded.
    """
    if first.image.path == second.image.path:
        return (first.index, first.tile) == (second.index, second.tile)
    if first.index != second.index:
        return False
    try:
        if first.image.transfer_syntax == second.image.transfer_syntax:
            return _pixel_bytes(first.image) == _pixel_bytes(second.image)
        return np.array_equal(_decode_frame(first), _decode_frame(second))
    except OSError as error:
        raise ReadError(f"{second.image.path.name} cannot be read: {error.strerror or error}") from error


def _decode_frame(frame: Frame) -> NDArray[Any]:
    """Return the stored values of one frame, ``(rows, columns)``."""
    check_readable(frame.image)
    return read_frames([frame], Notes(None, frame.image.path.name))[0]


def _pixel_bytes(image: Image) -> bytes:
    with image.path.open("rb") as file:
        if image.transfer_syntax == _DEFLATED:
            return file.read()
        file.seek(image.pixel_offset)
        return file.read(-1 if image.pixel_length is None else image.pixel_length)


def _read_file(frames: list[Frame], stored: NDArray[Any], wanted: list[int]) -> None:
    """Read the frames of one file into their positions in ``stored``."""
    image = frames[0].image
    if image.pixel_length is None:
        _decode_file(frames, stored, wanted)
        return
    pixels = image.pixel_format
    whole_frame = _native_reader(image, _frame_size(pixels))
    known = -1
    for frame, number in zip(frames, wanted, strict=True):
        if frame.tile is None:
            whole_frame(frame.index, stored[number])
            continue
        if frame.index != known:
            whole, known = np.empty((pixels.rows, pixels.columns), stored.dtype), frame.index
            whole_frame(frame.index, whole)
        row, column, rows, columns = frame.tile
        stored[number] = whole[row : row + rows, column : column + columns]


def _frame_size(pixels: PixelFormat) -> int:
    return pixels.rows * pixels.columns * pixels.bits_allocated // 8


def _native_reader(image: Image, size: int) -> Callable[[int, NDArray[Any]], None]:
    """Return a function that reads an uncompressed frame, by its number, into an array."""
    if image.transfer_syntax == _DEFLATED:
        data = inflate_file(image.path)

        def from_memory(index: int, target: NDArray[Any]) -> None:
            start = image.pixel_offset + index * size
            target[:] = np.frombuffer(data[start : start + size], target.dtype).reshape(target.shape)

        return from_memory
    swapped = image.transfer_syntax == _BIG_ENDIAN
    if swapped and image.pixel_format.bits_allocated == 8:
        raise ReadError(
            "8-bit pixels in the retired big-endian syntax", remedy="save the series as little endian first"
        )

    def from_file(index: int, target: NDArray[Any]) -> None:
        with image.path.open("rb", buffering=0) as file:
            file.seek(image.pixel_offset + index * size)
            view = target.data.cast("B")
            done = 0
            while done < size:
                count = file.readinto(view[done:])
                if not count:
                    raise ReadError(
                        f"{done} of {size} bytes of a frame are present", remedy="it is cut short, export it again"
                    )
                done += count
        if swapped:
            target.byteswap(inplace=True)

    return from_file


def _decode_file(frames: list[Frame], stored: NDArray[Any], wanted: list[int]) -> None:
    """Decode the compressed frames of one file with pydicom into their positions."""
    image = frames[0].image
    pixels = image.pixel_format
    if pixels.high_bit != pixels.bits_stored - 1:
        raise ReadError(
            f"compressed, with the high bit {pixels.high_bit}", remedy="not a coding that DICOM allows, export it again"
        )
    if any(frame.tile is not None for frame in frames):
        raise ReadError(
            "tiles in compressed pixel data are not split", remedy="convert it first, for example with dcm2niix"
        )
    with quiet():
        try:
            for number, decoded in zip(wanted, _decoded(image, [frame.index for frame in frames]), strict=True):
                stored[number] = decoded
        except PARSE_ERRORS as error:
            raise ReadError(
                f"its compressed pixel data do not decode ({short_reason(error)})",
                remedy="damaged, export the series again",
            ) from error


def _decoded(image: Image, indices: list[int]) -> Iterator[NDArray[Any]]:
    """Yield frames, ``(rows, columns)``, as unsigned values of the allocated width."""
    dataset = dcmread(image.path)
    if "PixelData" not in dataset:
        raise ValueError("they are cut short")
    syntax = UID(image.transfer_syntax)
    decoder = get_decoder(syntax)
    available = decoder.available_plugins
    plugin = next((name for name in _PLUGINS if name in available), "")
    if plugin == "gdcm":
        _keep_gdcm_quiet()
    if syntax.startswith(_ENDS_WITH_MARKER):
        _check_markers(dataset.PixelData, image.number_of_frames)
    pixels = image.pixel_format
    target = _STORED[pixels.bits_allocated]
    for index in indices:
        values, _ = decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugin)
        if values.shape != (pixels.rows, pixels.columns) or values.dtype.itemsize > target.itemsize:
            raise ValueError(f"an array of {values.shape} {values.dtype}")
        wide = values.astype(f"<{'i' if pixels.signed else 'u'}{target.itemsize}", copy=False)
        yield wide.view(target)


@functools.cache
def _keep_gdcm_quiet() -> None:
    """Stop GDCM from writing to the terminal what the error message contains already."""
    trace = importlib.import_module("gdcm").Trace
    trace.WarningOff()
    trace.ErrorOff()


def _check_markers(data: bytes, number_of_frames: int) -> None:
    """Refuse frames without an end marker: decoders return a picture from the rest of a truncated frame."""
    for frame in generate_frames(data, number_of_frames=number_of_frames):
        if b"\xff\xd9" not in frame[-8:]:
            raise ValueError("a frame without its end marker")


def _stored_bits_only(stored: NDArray[Any], pixels: PixelFormat, notes: Notes) -> NDArray[Any]:
    """Clear, in place, the bits that are not part of the pixel value (PS3.5 section 8.1.1), and extend the sign."""
    unused = pixels.bits_allocated - pixels.bits_stored
    if unused and pixels.high_bit == pixels.bits_stored - 1 and not pixels.signed:
        mask = 2**pixels.bits_stored - 1
        if int(stored.max()) > mask:
            notes.info(
                f"bits above the {pixels.bits_stored} stored ones are set and are cleared: no pixel value has them"
            )
            stored &= stored.dtype.type(mask)
        return stored
    if unused:
        stored <<= stored.dtype.type(pixels.bits_allocated - 1 - pixels.high_bit)
    values = stored.view(f"<i{stored.dtype.itemsize}") if pixels.signed else stored
    if unused:
        values >>= values.dtype.type(unused)
    return values


def _fits_int16(stored: NDArray[Any], frames: Sequence[Frame]) -> bool:
    """Whether every rescaled value is an int16: by the number of stored bits if that suffices, else by the values."""
    bits = frames[0].image.pixel_format.bits_stored
    signed = frames[0].image.pixel_format.signed
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    pairs = {(int(frame.slope), int(frame.intercept)) for frame in frames}
    if all(_INT16.min <= v * slope + add <= _INT16.max for slope, add in pairs for v in (least, most)):
        return True
    for k, frame in enumerate(frames):
        slope, add = int(frame.slope), int(frame.intercept)
        ends = (int(stored[k].min()) * slope + add, int(stored[k].max()) * slope + add)
        if min(ends) < _INT16.min or max(ends) > _INT16.max:
            return False
    return True


def _rescale_whole(stored: NDArray[Any], frames: Sequence[Frame]) -> NDArray[Any]:
    """Rescale to int16; 16-bit values in place, modulo 2**16, which is exact because the results fit."""
    in_place = stored.dtype.itemsize == 2
    values = stored.view(np.int16) if in_place else stored.astype(np.int16)
    for k, frame in enumerate(frames):
        slope, add = (np.array(int(v) % 65536, np.uint16).view(np.int16)[()] for v in (frame.slope, frame.intercept))
        if slope != 1:
            values[k] *= slope
        if add != 0:
            values[k] += add
    return values
