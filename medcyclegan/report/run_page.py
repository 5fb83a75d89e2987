"""The page of a training run: health, panels over time, curves, configuration, provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medcyclegan.errors import ReadError
from medcyclegan.model.fitness import Fitness, gravest, judge_model
from medcyclegan.report.charts import Chart, curve_chart
from medcyclegan.report.page import picture_url, plain_rows, render
from medcyclegan.run_record import INTERRUPTED, RECORD_FILE, load_run_record, run_state

__all__ = ["build_run_page", "is_run"]

#: Maximum number of pictures in a page.
_MOST_PANELS = 60
_CHARTS = {
    "Generators, all terms": ("generators",),
    "Adversarial loss": ("adversarial_AB", "adversarial_BA"),
    "Cycle loss": ("cycle_A", "cycle_B"),
    "Identity loss": ("identity_A", "identity_B"),
    "Structure loss": ("structure_AB", "structure_BA"),
    "Discriminators": ("discriminator_A", "discriminator_B"),
    "Cycle error on held-out patients": ("validation_cycle_A", "validation_cycle_B"),
    "Distance of patches to real ones, held-out patients": (
        *("validation_sliced_wasserstein_AB", "validation_sliced_wasserstein_BA"),
    ),
    "Distance of intensities to real ones, held-out patients": ("validation_histogram_AB", "validation_histogram_BA"),
    "MAE on held-out pairs": ("validation_mae_AB", "validation_mae_BA"),
    "PSNR on held-out pairs (dB)": ("validation_psnr_AB", "validation_psnr_BA"),
    "SSIM on held-out pairs": ("validation_ssim_AB", "validation_ssim_BA"),
    "Change from input to synthetic slice": ("health_change_AB", "health_change_BA"),
    "Agreement of contrast with real slices": ("health_contrast_AB", "health_contrast_BA"),
    "Agreement of edges with the input": ("health_edges_AB", "health_edges_BA"),
    "Displacement relative to the input (pixels)": ("health_shift_AB", "health_shift_BA"),
    "Signal outside the head (fraction of its area)": ("health_outside_AB", "health_outside_BA"),
    "Cycle error, with the synthetic slice in full precision and in 8 bits": (
        *("health_cycle_AB", "health_cycle_8bit_AB", "health_cycle_BA", "health_cycle_8bit_BA"),
    ),
    "Cycle error relative to a uniform image": ("health_unrestored_AB", "health_unrestored_BA"),
    "Learning rate": ("learning_rate",),
    "Images per second": ("images_per_second",),
}
#: State of an unfinished run -> text between "The run" and "at step N".
_UNFINISHED = {
    "failed": "failed",
    "stopped": "was stopped",
    "running": "is still being trained, and is",
    INTERRUPTED: "was interrupted without a message (its process was killed, perhaps because memory ran out); "
    "medcyclegan {command} --resume continues it. Its last checkpoint is",
}
#: Columns that are shown elsewhere, or are of no interest as a curve.
_NO_CURVES = ("step", "epoch", "seconds_per_step", "data_wait")
#: The last fraction of a run, from which its state is judged, and the fewest rows for a judgement.
_RECENT, _FEWEST_ROWS = 0.2, 20
_WAITING = 0.1


def is_run(path: Path) -> bool:
    """Return whether ``path`` is the folder of a training run."""
    return (path / RECORD_FILE).is_file() and (path / "config.yaml").is_file()


def build_run_page(run: Path) -> str:
    """Return the page of the run in folder ``run``.

    A run that is in progress or was interrupted is shown up to its last row. Raises
    :class:`~medcyclegan.errors.ReadError` if its record cannot be read.
    """
    record = _load_record(run)
    rows = _load_rows(run / "metrics.jsonl")
    panels, left_out = _load_panels(run / "panels")
    current, resolved = _health_of_record(record)
    domains = [str(name) for name in record.get("domains", ())]
    title = f"Training run: {' and '.join(domains)}" if domains else "Training run"
    return render(
        "run.html.j2",
        title=title,
        cards=_cards(record, rows),
        state=_state_of_record(record),
        current=[*current, *_speed_of_rows(rows)],
        resolved=resolved,
        model=_judge_model(run / "model" / "model.json"),
        watched="health" in record,
        panels=panels,
        panels_left_out=left_out,
        panel_description=_describe_columns(rows, domains),
        charts=_charts(rows, domains),
        provenance=_provenance(record),
        configuration=_read_text(run / "config.yaml"),
    )


def _describe_columns(rows: Sequence[Mapping[str, float]], domains: Sequence[str]) -> str:
    """Describe the columns of a panel; without an identity loss it has no column for the identity pass."""
    a, b = domains if len(domains) == 2 else ("A", "B")
    has_identity = any("identity_A" in row for row in rows)
    last = f"the translation back to {a}, and {a} to {a}" if has_identity else f"and the translation back to {a}"
    return f"Above: a slice of {a}, its translation to {b}, {last}. Below: the same for {b}."


def _load_record(run: Path) -> dict[str, Any]:
    """Return the run's record with its present state."""
    record = load_run_record(run)
    return {**record, "state": run_state(run, record)}


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}") from None


def _load_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of metrics.jsonl; lines that cannot be parsed (one that is being written) are skipped."""
    rows = []
    for line in _read_text(path).splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), (int, float)):
            rows.append({name: float(v) for name, v in row.items() if isinstance(v, (int, float)) and math.isfinite(v)})
    return rows


def _load_panels(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Return evenly spaced panels as ``{step, source}``, and the number of panels left out."""
    numbered = [(f.stem.rpartition("-")[2], f) for f in folder.glob("step-*.png")]
    files = sorted((int(number), file) for number, file in numbered if number.isdecimal())
    if not files:
        return [], 0
    chosen = np.linspace(0, len(files) - 1, min(len(files), _MOST_PANELS)).round().astype(int)
    panels = [{"step": files[n][0], "source": picture_url(files[n][1])} for n in chosen]
    return panels, len(files) - len(panels)


def _cards(record: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> list[tuple[str, str]]:
    sessions = [entry for entry in record.get("sessions", ()) if isinstance(entry, dict)]
    seconds = sum(float(entry.get("seconds") or 0) for entry in sessions)
    cards = [
        ("state", str(record.get("state", "unknown"))),
        ("step", f"{_last_step(record, rows)} of {record.get('steps')}"),
    ]
    if record.get("state") != "finished":
        cards.append(("last checkpoint", f"step {record.get('step')}"))
    if seconds:
        cards.append(("time", f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"))
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    if speeds:
        cards.append(("images per second", f"{np.median(speeds):.3g}"))
    if sessions:
        cards.append(("device", str(sessions[-1].get("device", "unknown"))))
    return cards


def _last_step(record: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> int:
    """Return the last step in the metrics or of a checkpoint, whichever is later."""
    step = record.get("step")
    return max([step if isinstance(step, int) else 0, *(int(row["step"]) for row in rows[-1:])])


def _state_of_record(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence about the state of an unfinished run; no sentence for a finished one."""
    state = record.get("state")
    if state not in _UNFINISHED:
        return []
    reason = f": {record['reason']}" if record.get("reason") else ""
    command = "train" if record.get("pairs") is None else "pretrain"
    return [f"The run {_UNFINISHED[state].format(command=command)} at step {record.get('step')}{reason}."]


def _health_of_record(record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the warnings (``health`` in run.json) that applied at the last check, and the resolved ones.

    A run that failed before its first step has none.
    """
    health = record.get("health", {"warnings": [], "last_check": None})
    current: list[str] = []
    resolved: list[str] = []
    try:
        for warning in health["warnings"]:
            text = f"Step {warning['step']}: {warning['message']}"
            if warning["last_step"] < health["last_check"]:
                resolved.append(f"{text} (last seen at step {warning['last_step']})")
            else:
                current.append(text)
    except (KeyError, TypeError) as error:
        raise ReadError(f"{RECORD_FILE}: its health cannot be read ({error!r}): copy the run's folder again") from None
    return current, resolved


def _judge_model(file: Path) -> dict[str, Any] | None:
    """Return the verdict on the run's model before any translation, with its reasons; None if there is no model."""
    try:
        record = json.loads(file.read_text("utf-8"))
        a, b = (str(record["domains"][side]["name"]) for side in "AB")
        fitness = Fitness.of(record.get("provenance", {}))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    findings = [*judge_model(fitness, a, b, "AB"), *judge_model(fitness, b, a, "BA")]
    return {"verdict": gravest(findings), "reasons": list(dict.fromkeys(reason for _, reason in findings))}


def _speed_of_rows(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return a warning if the run waited for its data in its last fifth."""
    recent = rows[-max(1, int(len(rows) * _RECENT)) :]
    if len(rows) < _FEWEST_ROWS:
        return []
    waits = [row["data_wait"] for row in recent if "data_wait" in row]
    if not waits or np.median(waits) <= _WAITING:
        return []
    return [f"{np.median(waits):.0%} of the time is spent waiting for slices: move the slice store to a faster disk."]


def _charts(rows: Sequence[Mapping[str, float]], domains: Sequence[str]) -> list[Chart]:
    groups = dict(_CHARTS)
    known = {name for names in groups.values() for name in names} | set(_NO_CURVES)
    groups |= {name.replace("_", " "): (name,) for row in rows for name in row if name not in known}
    charts = []
    for title, names in groups.items():
        curves = {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
        curves = {_legend(name, domains): points for name, points in curves.items() if points}
        if curves:
            charts.append(curve_chart(title, curves))
    return charts


def _legend(name: str, domains: Sequence[str]) -> str:
    """Return the name of a curve with those of the domains: ``t1 to t2`` for ``validation_cycle_AB``."""
    if len(domains) != 2:
        return name
    a, b = domains
    start, _, end = name.rpartition("_")
    words = {"A": a, "B": b, "AB": f"{a} to {b}", "BA": f"{b} to {a}"}
    return f"{words[end]}, in 8 bits" if end in words and start.endswith("8bit") else words.get(end, name)


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the record as rows, without the paths of the slice store and of label maps."""
    left_out = ("sessions", "health", "slices", "reason", "pairs")
    rows = plain_rows({name: value for name, value in record.items() if name not in left_out})
    pairs = record.get("pairs")
    if isinstance(pairs, Mapping):
        rows.append(("pairs of", str(pairs.get("kind"))))
    for number, entry in enumerate(record.get("sessions", ()), start=1):
        if isinstance(entry, dict):
            rows += plain_rows(entry, f"session {number}: ")
    return rows
