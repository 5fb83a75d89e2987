"""Read bytes from a file that may be compressed: once, up to the checksum, never more than requested."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from medcyclegan.cpus import usable_cpus
from medcyclegan.errors import ReadError

try:
    from isal import igzip as fast_gzip
    from isal import igzip_threaded, isal_zlib

    _CORRUPT: Any = isal_zlib.error
except ImportError:  # the extra `fast` is not installed: the same result, about three times slower
    fast_gzip = None
    _CORRUPT = zlib.error

__all__ = [
    "GZIP_MAGIC",
    "LARGEST_RATIO",
    "ByteStream",
    "GrowingFile",
    "Packing",
    "open_bytes",
    "open_gzip_writer",
    "read_start",
    "stream_of",
]

Packing = Literal["raw", "gzip", "zlib"]

GZIP_MAGIC = b"\x1f\x8b"

#: Deflate cannot compress more than 1032 bytes into one: a header that claims more is wrong.
LARGEST_RATIO = 1032
_CHUNK = 1 << 22
#: More threads than this compress faster than the file is read back and compared.
_THREADS = 4
#: Seconds between looks at a file that is being written.
_WAIT_S = 0.005


class ByteStream:
    """The bytes of a file from its current position to the end, decompressed if it is compressed.

    Reading up to :meth:`finish` verifies the checksum. ``name`` starts every message. Every failure raises
    :class:`~medcyclegan.errors.ReadError`. ``size``: the largest number of bytes, if the file is still being written.
    """

    def __init__(self, file: BinaryIO, name: str, packing: Packing, *, size: int | None = None) -> None:
        self.name = name
        self.packing = packing
        self._size = _size_from_here(file) if size is None else size
        self._position = 0
        self._file: Any = {"raw": lambda f: f, "gzip": _gzip_reader, "zlib": _ZlibReader}[packing](file)

    def require(self, total: int, what: str) -> None:
        """Refuse a file that cannot hold ``total`` bytes, before memory is allocated for them."""
        most = self._size if self.packing == "raw" else self._size * LARGEST_RATIO
        if total > most:
            held = f"{most}" if self.packing == "raw" else f"at most {most} of them when decompressed"
            raise ReadError(
                f"{self.name}: {what} needs {total} bytes but the file has {held}",
                remedy="it is cut short or its header is damaged, copy or export it again",
            )

    def read_into(self, target: memoryview, what: str) -> None:
        """Fill ``target`` with the next bytes; ``what`` names them in the error if they are missing."""
        done = 0
        while done < len(target):
            with self._translated():
                count = self._file.readinto(target[done : done + _CHUNK])
            if not count:
                raise ReadError(
                    f"{self.name}: the file ends {len(target) - done} bytes before {what} does",
                    remedy="it is cut short or its header is damaged, copy or export it again",
                )
            done += count
        self._position += done

    def read(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes."""
        content = bytearray(count)
        self.read_into(memoryview(content), what)
        return bytes(content)

    def skip(self, count: int, what: str) -> None:
        """Skip ``count`` bytes, in bounded memory."""
        scratch = memoryview(bytearray(min(count, _CHUNK)))
        while count > 0:
            step = min(count, _CHUNK)
            self.read_into(scratch[:step], what)
            count -= step

    def finish(self) -> None:
        """Verify that nothing follows and, in a gzip, the checksum of everything that was read."""
        with self._translated():
            rest = self._file.read(1)
        if rest:
            raise ReadError(
                f"{self.name}: bytes follow the last voxel (number {self._position})",
                remedy=(
                    "the header does not "
                    "describe the whole file, so it is damaged or two files were joined; export it again"
                ),
            )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, gzip.BadGzipFile, zlib.error, _CORRUPT) as error:
            raise ReadError(
                f"{self.name}: the compressed data are damaged or cut short near byte {self._position} ({error})",
                remedy="copy or export the file again",
            ) from error
        except OSError as error:
            raise ReadError(f"{self.name} cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[ByteStream]:
    """Open ``path`` as a :class:`ByteStream`; its first two bytes show whether it is gzipped."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror or error}") from error
    with file:
        yield stream_of(file, str(path))


def stream_of(file: BinaryIO, name: str) -> ByteStream:
    """Return a :class:`ByteStream` from the start of an open, seekable ``file``, gzipped or not."""
    file.seek(0)
    packing: Packing = "gzip" if file.read(2) == GZIP_MAGIC else "raw"
    file.seek(0)
    return ByteStream(file, name, packing)


class GrowingFile(io.RawIOBase):
    """Read a file from its start while it is being written; :meth:`complete` states that nothing will follow.

    ``descriptor``: of the open file, whose own position is neither used nor changed.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._position = 0
        self._complete = threading.Event()

    def complete(self) -> None:
        """State that the file ends where it ends now: nothing more will be written."""
        self._complete.set()

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill ``target``, or its beginning, with the next bytes; 0 at the end of a complete file."""
        while True:
            ended = self._complete.is_set()  # before the read, which then reaches the end
            count = os.preadv(self._descriptor, [target], self._position)
            if count or ended:
                self._position += count
                return count
            self._complete.wait(_WAIT_S)


def read_start(path: Path, count: int) -> bytes:
    """Return up to ``count`` bytes from the start of ``path``, as they are stored."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror or error}") from error


def _size_from_here(file: BinaryIO) -> int:
    start = file.tell()
    size = file.seek(0, 2) - start
    file.seek(start)
    return size


def _gzip_reader(file: BinaryIO) -> Any:
    if fast_gzip is None:
        return gzip.GzipFile(fileobj=file, mode="rb")
    return fast_gzip.IGzipFile(fileobj=file, mode="rb")


class _ZlibReader:
    """The ``readinto`` and ``read`` of a zlib stream (RFC 1950), which ends in a checksum like gzip."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj()
        self._packed = b""

    def read(self, count: int) -> bytes:
        while not self._inflate.eof:
            self._packed = self._packed or self._file.read(_CHUNK)
            if not self._packed:
                raise EOFError("the end-of-stream marker is missing")
            content = self._inflate.decompress(self._packed, count)
            self._packed = self._inflate.unconsumed_tail
            if content:
                return content
        return (self._inflate.unused_data or self._file.read(count))[:count]

    def readinto(self, target: memoryview) -> int:
        content = self.read(len(target))
        target[: len(content)] = content
        return len(content)


def open_gzip_writer(file: BinaryIO) -> BinaryIO:
    """Return a gzip writer onto ``file`` without name or time, so that equal data give equal files.

    The file is one gzip member, which every reader reads. isal compresses blocks of it in parallel; the bytes do not
    depend on the number of threads. The levels are the fastest of each library that still compress a head well (isal
    3, zlib 4).
    """
    if fast_gzip is None:
        return cast(BinaryIO, gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0))
    threads = min(_THREADS, usable_cpus())
    return cast(BinaryIO, igzip_threaded.open(file, "wb", compresslevel=3, threads=threads))
