"""Check derived series on an Orthanc server on the loopback, sent by REST and by DIMSE, and sent twice.

``python tests/benchmarks/dicom_orthanc.py``. Three real series of ../shared/data become synthetic CT and MR; each is
stored, fetched and compared, then made anew and stored again. DIMSE is dcmtk's storescu, or pynetdicom's without it.
The exit code is 1 if something is returned with a change, or if sending twice creates a second series.
"""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import dcmread
from support import dicom_readback, orthanc_server

from medcyclegan import read_volume, write_volume

DATA = Path(__file__).parents[3] / "shared" / "data"
_SENT = ("Siemens sagittal", "Siemens CT, tilted", "Siemens enhanced")
_STORESCU = next((path for path in ("/usr/bin/storescu", shutil.which("storescu")) if path and Path(path).exists()), "")


def main() -> int:
    """Print a line for each series and protocol; return 1 if any fails."""
    logging.disable(logging.CRITICAL)
    if orthanc_server.MISSING or not DATA.is_dir() or not _STORESCU:
        print(f"missing: {orthanc_server.MISSING or (_STORESCU and DATA) or 'storescu (dcmtk or pynetdicom)'}")
        return 1
    failed = 0
    print(f"{'series':22} {'to':3} {'way':6} {'images':>6} {'sent in':>8}  came back      sent again")
    for name in _SENT:
        folder, options = dicom_readback.REAL_SERIES[name]
        source = read_volume(DATA / folder, **options)
        for modality in ("CT", "MR"):
            with tempfile.TemporaryDirectory() as work:
                for once in ("first", "second"):
                    write_volume(dicom_readback.made_from(source, modality), Path(work, once))
                for way in ("REST", "DIMSE"):
                    failed += _judge(f"{name:22} {modality:3}", way, Path(work))
    print(f"\nfailed: {failed}")
    return int(failed > 0)


def _judge(title: str, way: str, work: Path) -> int:
    with orthanc_server.running_orthanc() as server:
        begun = time.monotonic()
        _send(server, way, work / "first")
        seconds = time.monotonic() - begun
        files = dicom_readback.files_of(work / "first")
        kept = server.instances()
        same = [_same(path, kept, way) for path in files]
        _send(server, way, work / "second")
        counts = [len(server.get_json(f"/{level}")) for level in ("series", "instances")]
    good = all(same) and counts == [1, len(files)]
    print(
        f"{title} {way:6} {len(files):6} {seconds:7.2f}s  {sum(same):3} identical  {counts[0]} series, "
        f"{counts[1]} images" + ("" if good else "   <-- failed")
    )
    return int(not good)


def _send(server: orthanc_server.Orthanc, way: str, folder: Path) -> None:
    if way == "REST":
        for path in dicom_readback.files_of(folder):
            server.post("/instances", path.read_bytes())
        return
    command = [_STORESCU, "-aec", "ORTHANC", "127.0.0.1", str(server.dicom_port)]
    subprocess.run([*command, *map(str, dicom_readback.files_of(folder))], check=True, capture_output=True)


def _same(path: Path, kept: dict[str, bytes], way: str) -> bool:
    """Whether the server has the file: its bytes by REST, its data set by DIMSE, which sends no file header."""
    image = dcmread(path)
    back = kept.get(str(image.SOPInstanceUID), b"")
    return back == path.read_bytes() if way == "REST" else bool(back) and dcmread(io.BytesIO(back)) == image


if __name__ == "__main__":
    sys.exit(main())
