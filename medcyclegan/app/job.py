"""Translate an uploaded volume in a process of its own: ``python -m medcyclegan.app.job``.

The request is one line of JSON on stdin; the answers are lines of JSON on stdout. The process ends when stdin is closed
(the server has stopped or was killed).
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

from medcyclegan.errors import IncompleteError, MedCycleGANError, one_line
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.inference.runtime.options import Planes
from medcyclegan.io import ReadOptions, sidecar_path
from medcyclegan.logs import set_up_logging
from medcyclegan.progress import StageProgress, listen_to_progress
from medcyclegan.report import ReportOptions, write_report

__all__ = ["Job", "main", "run_job"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A request: the volume ``source``, the empty folder ``results``, and what to do.

    ``series``: the DICOM series to read, if there are several. ``uncertainty``: also compute the map.
    """

    source: str
    results: str
    model: str
    to: str
    planes: Planes = "axial"
    series: str | None = None
    uncertainty: bool = True
    max_voxels: int = 2**29


def run_job(job: Job, tell: Any) -> dict[str, Any]:
    """Translate, write the page with the viewer, and return the names of the results and the verdict.

    ``tell`` is called with the step and the fraction that is done. Results: ``downloads`` (name -> file in
    ``results``) and ``view`` (the files of the page, the page first).
    """
    source, results = Path(job.source), Path(job.results)
    reading = ReadOptions(series=job.series, max_voxels=job.max_voxels)
    is_series = source.is_dir()
    name = f"synthetic-{''.join(c for c in job.to if c.isalnum()) or 'volume'}"
    output = results / (name if is_series else f"{name}.nii.gz")
    spread = results / "uncertainty.nii.gz" if job.uncertainty else None
    options = TranslationOptions(
        to=job.to, computing=InferenceOptions(planes=job.planes), uncertainty=spread, reading=reading
    )
    share = 0.45 if job.uncertainty else 0.9
    stages = [("translating", share), ("translating back", 0.9 - share)]
    warning = ""
    with listen_to_progress(StageProgress(tell, stages)):
        try:
            translate_file(source, output, job.model, options)
        except IncompleteError as error:  # the output itself is complete
            warning = str(error).replace(f"{results}/", "")
    tell("preparing the viewer", 0.92)
    shown = spread if spread is not None and spread.exists() else None
    page = results / "view" / "report.html"
    page.parent.mkdir()
    write_report(output, ReportOptions(out=page, source=source, uncertainty=shown, embedded_mb=0.0, reading=reading))
    record = json.loads(sidecar_path(output).read_text())
    downloads = [sidecar_path(output), *([shown] if shown else [])]
    downloads.insert(0, _zipped(output) if is_series else output)
    voxels = sorted(file for file in page.parent.rglob("*.js"))
    return {
        "downloads": [file.name for file in downloads],
        "view": [file.relative_to(page.parent).as_posix() for file in (page, *voxels)],
        "verdict": str(record.get("quality", {}).get("verdict", "")),
        "warning": warning,
    }


def _zipped(series: Path) -> Path:
    """Return a ZIP file with the DICOM series."""
    archive = series.with_name(f"{series.name}.zip")
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for image in sorted(series.glob("*.dcm")):
            file.write(image, f"{series.name}/{image.name}")
    return archive


def main() -> None:
    """Run the job on stdin, and print its progress and its result or failure."""
    line = sys.stdin.readline()
    threading.Thread(target=_end_with_server, daemon=True).start()
    set_up_logging()
    job = Job(**json.loads(line))
    try:
        result = run_job(job, lambda stage, fraction: _print(kind="progress", stage=stage, fraction=round(fraction, 3)))
    except MedCycleGANError as error:
        _print(kind="failed", text=_anonymous(str(error), job))
    except MemoryError:
        _print(kind="failed", text="not enough memory for this volume")
    except OSError as error:
        _print(kind="failed", text=f"a file could not be written: {error.strerror or type(error).__name__}")
    else:
        _print(kind="done", **result)


def _anonymous(text: str, job: Job) -> str:
    """Return a message without the folders of the server."""
    return one_line(text.replace(f"{job.results}/", "").replace(job.source, "the upload"))


def _print(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_with_server() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
