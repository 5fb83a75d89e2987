"""From a shuffled export to synthetic series in an archive: the commands of a how-to page, run on real scans.

    python tests/benchmarks/afternoon.py OUT [DATA]        (default of DATA: ../shared/data)

Copies all DICOM files of DATA into three folders of OUT/export, in random order, with the files that lie next to them
on a CD and a truncated image. Then runs the commands of docs/howto/ct_to_mr_pacs.md, as they are written, in a terminal
of 80 columns, and prints each with its time and all that it prints. The archive is an Orthanc on this machine (Debian's
orthanc and orthanc-dicomweb), which the script starts and ends; without it, the last commands are left out. Takes about
a minute on two cores. The exit code is 1 if the archive does not hold every image that was made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from PIL import Image
from support.orthanc_server import DICOMWEB_MISSING, Orthanc, free_port, running_orthanc

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "ct_to_mr_pacs.md"
#: The ports in the page, which are those of an Orthanc by default.
HTTP_PORT, DICOM_PORT = 8042, 4242
MOST_COMMANDS = 10
_COLUMNS, _LINES = 80, 40
_TOKENS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")


def main(words: list[str]) -> int:
    """Run the commands; return 1 if the archive lacks an image."""
    if not words or words[0].startswith("-"):
        print(__doc__)
        return 2
    out, data = Path(words[0]), Path(words[1]) if len(words) > 1 else ROOT.parent / "shared" / "data"
    if out.exists() or not data.is_dir():
        print(f"{out} exists: name a new folder" if out.exists() else f"{data}: no such folder")
        return 1
    count = shuffle(data, out / "export")
    print(f"{count} DICOM files of {data.name} in three folders, and 5 other files\n")
    commands = page_commands()
    with archive() as server:
        total = 0.0
        for number, command in enumerate(commands, start=1):
            if server is None and names_archive(command):
                print(f"[{number}] {command}\nleft out: {DICOMWEB_MISSING}\n")
                continue
            total += run(number, command if server is None else at_ports(command, server), out)
        print(f"{len(commands)} commands, {total / 60:.1f} minutes")
        return 0 if server is None else compare(server, out)


def shuffle(data: Path, export: Path) -> int:
    """Copy all DICOM files of ``data`` into three folders of ``export``, with stray files; return their number."""
    chance = random.Random(0)
    files = sorted(path for path in data.rglob("*") if path.is_file() and is_dicom(path))
    chance.shuffle(files)
    for number, path in enumerate(files):
        folder = export / f"CD{number % 3 + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / f"IM{number:05d}")
    (export / "README.TXT").write_text("Open INDEX.HTM to view the images.\n")
    (export / "CD1" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x02\x00UI\x1a\x001.2.840.10008.1.3.10")
    (export / "CD2" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    Image.new("RGB", (64, 48)).save(export / "CD3" / "LOGO.JPG")
    fmri = min(data.glob("dicom/mr_ge_epi_4d/in/*.dcm"), default=files[0])
    (export / "CD2" / "IM99999").write_bytes(fmri.read_bytes()[:9000])  # cut short, as by a full disk
    return len(files)


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of a DICOM file."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def page_commands() -> list[str]:
    """Return the commands of the page's block that ends in an archive."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)
    (block,) = [block for block in blocks if "storescu" in block]
    commands = block.replace("\\\n", " ").splitlines()
    assert len(commands) <= MOST_COMMANDS
    return [re.sub(r"\s+", " ", command) for command in commands]


def names_archive(command: str) -> bool:
    """Whether a command needs the archive."""
    return str(DICOM_PORT) in command or str(HTTP_PORT) in command


def at_ports(command: str, server: Orthanc) -> str:
    """Return a command with the ports at which the archive listens."""
    return command.replace(str(DICOM_PORT), str(server.dicom_port)).replace(str(HTTP_PORT), str(server.http_port))


@contextlib.contextmanager
def archive() -> Iterator[Orthanc | None]:
    """Start an Orthanc; yield None if it is not installed."""
    if DICOMWEB_MISSING:
        print(f"{DICOMWEB_MISSING}: nothing is sent\n")
        yield None
        return
    with running_orthanc(ports=(free_port(), free_port()), dicomweb=True) as server:
        yield server


def run(number: int, command: str, folder: Path) -> float:
    """Run a command in ``folder`` in a terminal, print it with its output, and return the seconds that it takes."""
    main_end, other_end = pty.openpty()
    fcntl.ioctl(main_end, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": search, "TERM": "xterm", "COLUMNS": str(_COLUMNS)}
    begun = time.monotonic()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], cwd=folder, env=environment, stdin=other_end, stdout=other_end, stderr=other_end
    )
    os.close(other_end)
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while chunk := os.read(main_end, 1 << 16):
            written += chunk
    os.close(main_end)
    code = process.wait()
    seconds = time.monotonic() - begun
    print(f"[{number}] {command}   ({seconds:.0f} s, exit code {code})")
    print(final_text(written.decode(errors="replace")), flush=True)
    return seconds


def final_text(written: str) -> str:
    """Return what is on a terminal at the end, without the lines that progress bars replaced."""
    lines = [""]
    for part in _TOKENS.findall(written):
        if part == "\n":
            lines.append("")
        elif part.startswith("\x1b[") and part.endswith("K"):
            lines[-1] = ""
        elif part.startswith("\x1b[") and part.endswith("A"):
            del lines[max(1, len(lines) - int(part[2:-1] or 1)) :]
        elif part != "\r" and not part.startswith("\x1b"):
            lines[-1] += part
    return "\n".join(lines).rstrip() + "\n"


def compare(server: Orthanc, out: Path) -> int:
    """Print whether the archive holds all images that were made; return the exit code."""
    made = {path.read_bytes() for path in out.glob("synthetic_mr/*/*/*.dcm")}
    kept = server.instances()
    series = server.get_json("/series")
    print(f"made: {len(made)} images; in the archive: {len(kept)} images of {len(series)} series")
    return 0 if made and len(made) == len(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
