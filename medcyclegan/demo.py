"""Run all steps on synthetic heads: volumes, slices, a trained CycleGAN, translations, scores, a picture."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import medcyclegan
from medcyclegan.config import Config, load_config
from medcyclegan.device import choose_device
from medcyclegan.errors import TrainingError, WriteError
from medcyclegan.evaluation import Evaluation, evaluate_volumes
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.io import read_volume, write_volume
from medcyclegan.io.dicom.write.synthetic import write_made_series
from medcyclegan.model import ModelBundle
from medcyclegan.model.shipped import SHIPPED
from medcyclegan.phantom import Head, make_head, t1_volume, t2_volume
from medcyclegan.pictures import comparison_panel, png_bytes
from medcyclegan.progress import progress_bar
from medcyclegan.provenance import hash_json
from medcyclegan.slicing import slice_volumes
from medcyclegan.storage import atomic_write, check_output, exclusive_lock
from medcyclegan.training import train
from medcyclegan.volume import Volume

__all__ = ["DemoResult", "run_demo"]

log = logging.getLogger(__name__)

_RECORD, _LOCK, _MADE_BY = "demo.json", ".lock", "medcyclegan demo"
#: The shipped model that also translates the unseen heads. It was trained on other heads, with real anatomy.
_SHIPPED = "head-t1-t2"
#: The columns of the picture, in order. The error of "fake" follows them.
_COLUMNS = ("input", "fake", "shipped model", "truth")
#: Fraction of the fat signal that remains after fat suppression (water excitation, as in many T1 protocols).
_FAT_SIGNAL = 0.25
#: Voxels of a synthetic head and their size in mm; coarse, so that the demo takes minutes.
_SHAPE, _SPACING_MM = (80, 96, 40), (2.5, 2.5, 4.0)
#: First seeds of the synthetic heads: T1 subjects, T2 subjects (different ones), and test subjects.
_T1_SEEDS, _T2_SEEDS, _TEST_SEEDS = 100, 200, 300


@dataclasses.dataclass(frozen=True)
class DemoResult:
    """The result of :func:`run_demo`: the scores of each unseen head, and the path of the picture.

    ``scores``: of the model that the demo trained. ``shipped``: of the shipped model ``head-t1-t2``.
    """

    scores: tuple[Evaluation, ...]
    shipped: tuple[Evaluation, ...]
    picture: Path

    def record(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        return {
            "made_by": _MADE_BY,
            "scores": [score.to_dict() for score in self.scores],
            "shipped": {"model": _SHIPPED, "scores": [score.to_dict() for score in self.shipped]},
        }

    def table(self) -> str:
        """Return the scores as text, each followed by the score of the input taken as the output."""
        lines = [f"{'inside the head':<28}{'PSNR (dB)':>10}{'SSIM':>8}{'MAE':>8}"]
        for number, (score, shipped) in enumerate(zip(self.scores, self.shipped, strict=True), start=1):
            lines.append(_line(f"unseen head {number}, synthetic T2", [score]))
            lines.append(_line(f"  by the shipped {_SHIPPED}", [shipped]))
            lines.append(_line("  its T1 taken as T2", [score.baseline]))
        lines.append(_line("mean, synthetic T2", self.scores))
        lines.append(_line(f"  by the shipped {_SHIPPED}", self.shipped))
        lines.append(_line("  T1 taken as T2", [score.baseline for score in self.scores]))
        lines.append("Both scaled to [0, 1] by their percentiles in the head; SSIM as in SynthRAD2023.")
        return "\n".join(lines)


def run_demo(
    out: str | Path = "demo",
    *,
    config: Config | None = None,
    heads: tuple[int, int] = (12, 2),
    device: str = "auto",
    overwrite: bool = False,
) -> DemoResult:
    """Run all steps in the folder ``out`` with the public functions of the package.

    ``heads``: the number of synthetic heads of each contrast to train on, and the number to test on. T1
    heads are written as NIfTI files, and T2 heads of other subjects as DICOM series. The networks of
    configuration ``demo`` are trained on their slices. Then T1 volumes of unseen heads are translated
    and compared with their true T2 inside the head, next to the translations of the shipped model
    ``head-t1-t2``; the baseline is the T1 itself taken as the output.

    A demo that was interrupted continues where it stopped if it is started again with the same settings.

    Raises :class:`~medcyclegan.errors.WriteError` if ``out`` exists, unless it holds an interrupted demo with the same
    settings, or ``overwrite`` is set and ``out`` was written by a demo.
    """
    folder, config = Path(out), config or load_config("demo")
    device = str(choose_device(device))
    ModelBundle.load(SHIPPED / _SHIPPED)  # an incomplete installation fails here, not after minutes of training
    settings = {"config_sha256": hash_json(config.model_dump(mode="json")), "heads": list(heads)}
    _begin(folder, {"made_by": _MADE_BY, "version": medcyclegan.__version__, **settings}, overwrite=overwrite)
    try:
        with exclusive_lock(folder / _LOCK, wait=False):
            return _run(folder, config, heads, device)
    except BlockingIOError:
        raise WriteError(f"another demo is writing {folder}: wait for it, or choose another --out") from None


def _run(folder: Path, config: Config, heads: tuple[int, int], device: str) -> DemoResult:
    _write_heads(folder, heads)
    slice_volumes(folder / "volumes", folder / "slices", config=config, allow_synthetic=True)
    run = _train(folder, config, device)
    models = {"translated": run / "model", f"translated-{_SHIPPED}": SHIPPED / _SHIPPED}
    # An interrupted demo may have left translations.
    options = TranslationOptions("t2", InferenceOptions(device=device), overwrite=True)
    scores: dict[str, list[Evaluation]] = {name: [] for name in models}
    rows = []
    for head in (f"head-{number + 1}" for number in range(heads[1])):
        source = folder / "unseen" / f"{head}_T1w.nii.gz"
        given, truth = read_volume(source), read_volume(folder / "unseen" / f"{head}_T2w.nii.gz")
        fakes = []
        for name, model in models.items():
            translate_file(source, folder / name / f"{head}_T2w.nii.gz", model, options)
            fakes.append(read_volume(folder / name / f"{head}_T2w.nii.gz"))
            scores[name].append(evaluate_volumes(fakes[-1], truth, baseline=given))
        rows += _planes(dict(zip(_COLUMNS, (given, *fakes, truth), strict=True)))
    own, shipped = scores.values()
    result = DemoResult(tuple(own), tuple(shipped), folder / "demo.png")
    with atomic_write(result.picture) as file:
        ranges = dict.fromkeys(_COLUMNS, (0.0, 1.0))
        file.write(png_bytes(comparison_panel(rows, ranges=ranges, error_range=1.0, names=_COLUMNS)))
    _save_record(folder, result.record())
    return result


def _begin(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Mark ``folder`` as that of a demo with these settings, unless it already holds such a demo, unfinished.

    With ``overwrite``, the folder of an earlier demo is removed first, and nothing else.
    """
    started = {**settings, "state": "running"}
    if os.path.lexists(folder) and not overwrite:
        earlier = _load_record(folder)
        if earlier == started:
            log.info("continuing the demo in %s", folder)
            return
        if earlier is not None and earlier.get("state") == "running":
            raise WriteError(
                f"{folder} holds an unfinished demo with other settings: continue it with the same options, replace it "
                "with --overwrite, or choose another --out"
            )
    check_output(folder, overwrite=overwrite)
    if folder.exists():
        if _load_record(folder) is None:
            raise WriteError(f"{folder} was not written by a demo, so it is not replaced: choose another --out")
        shutil.rmtree(folder)
    _save_record(folder, started)


def _load_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the demo in ``folder``; None if there is none."""
    try:
        record = json.loads((folder / _RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("made_by") == _MADE_BY else None


def _save_record(folder: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(folder / _RECORD) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())


def _train(folder: Path, config: Config, device: str) -> Path:
    """Train the demo's networks, or continue their interrupted training; return the run's folder."""
    runs = folder / "runs"
    try:
        if (runs / "latest").exists():
            return train(out=runs, device=device, resume=True)
        return train(folder / "slices", config=config, out=runs, device=device)
    except TrainingError as error:
        raise TrainingError(f"the training of the demo ended: {error}; the same demo command continues it") from None


def _write_heads(folder: Path, heads: tuple[int, int]) -> None:
    count, tested = heads
    with progress_bar("drawing heads", 2 * count + tested) as bar:
        for n in range(count):
            path = folder / "volumes" / "t1" / f"sub-{n + 1:02d}_T1w.nii.gz"
            if not path.exists():
                write_volume(t1_volume(_head(_T1_SEEDS + n), fat_signal=_FAT_SIGNAL), path)
            bar.advance()
            series = folder / "volumes" / "t2" / f"patient-{n + 1:02d}"
            if not series.exists():
                head = _head(_T2_SEEDS + n, "LPS")
                write_made_series(t2_volume(head), series, number=n + 1, description="T2 made")
            bar.advance()
        for n in range(tested):
            given, truth = (folder / "unseen" / f"head-{n + 1}_{name}.nii.gz" for name in ("T1w", "T2w"))
            if not given.exists():
                write_volume(t1_volume(_head(_TEST_SEEDS + n), fat_signal=_FAT_SIGNAL), given)
            if not truth.exists():
                write_volume(t2_volume(_head(_TEST_SEEDS + n)), truth)
            bar.advance()
    log.info("wrote %d T1 heads (NIfTI), %d T2 heads (DICOM) and %d test heads", count, count, tested)


def _head(seed: int, orientation: Literal["RAS", "LPS"] = "RAS") -> Head:
    return make_head(seed, shape=_SHAPE, spacing_mm=_SPACING_MM, orientation=orientation)


def _planes(volumes: Mapping[str, Volume]) -> list[dict[str, NDArray[np.float32]]]:
    """Return two axial planes of a head, upright, each volume scaled to [0, 1] by its own percentiles."""
    scaled = {}
    for name, volume in volumes.items():
        low, high = np.percentile(volume.array[volume.array > volume.array.mean() / 2], (0.5, 99.5))
        scaled[name] = np.clip((volume.array - low) / (high - low), 0, 1).astype(np.float32)
    depth = volumes["input"].shape[2]
    return [
        {name: np.ascontiguousarray(array[::-1, ::-1, k].T) for name, array in scaled.items()}
        for k in (int(0.45 * depth), int(0.62 * depth))
    ]


def _line(name: str, scores: Sequence[Evaluation]) -> str:
    psnr, ssim, mae = (float(np.mean([getattr(s, key) for s in scores])) for key in ("psnr", "ssim_2023", "mae"))
    return f"{name:<28}{psnr:>10.2f}{ssim:>8.3f}{mae:>8.3f}"
