"""The page of a translation: input, fake, reference, error and uncertainty in a viewer, with its provenance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from medcyclegan.errors import ReadError
from medcyclegan.evaluation import Evaluation
from medcyclegan.evaluation.evaluate import BASELINES
from medcyclegan.pictures import preview
from medcyclegan.report.charts import Chart, reliability_chart
from medcyclegan.report.page import niivue, number, plain_rows, render, webp_url
from medcyclegan.report.table_page import MEANINGS
from medcyclegan.report.viewing import ViewedVolume, view_error, view_volume
from medcyclegan.volume import Volume

__all__ = ["TranslationPage", "build_translation_page"]


@dataclasses.dataclass(frozen=True)
class TranslationPage:
    """A page, and the files it needs next to it: name -> content; empty if everything fits into the page."""

    html: str
    files: Mapping[str, bytes]


def build_translation_page(
    volumes: Mapping[str, Volume],
    sidecar: Mapping[str, Any],
    *,
    scores: Evaluation | str | None = None,
    folder: str,
    most_bytes: int,
    exact: bool = False,
) -> TranslationPage:
    """Return the page of a translation.

    ``volumes`` holds ``fake`` and optionally ``input``, ``reference`` and ``uncertainty``; ``error`` is computed from
    fake and reference. ``sidecar``: the record that translate-volume wrote next to the fake. If the voxels take more
    than ``most_bytes`` in the page, they are put into files in ``folder`` next to it instead. ``scores``: those of the
    fake, or the reason why there are none although there is a reference. ``exact``: do not round voxels to their noise.
    """
    source, domain = _domain(sidecar, "from"), _domain(sidecar, "to")
    labels = {"input": f"input {source}", "fake": f"fake {domain}", "reference": f"reference {domain}"}
    labels = {name: label.strip() for name, label in labels.items()}
    shown = [view_volume(volumes[name], name, label, exact=exact) for name, label in labels.items() if name in volumes]
    shown += _maps(volumes, sidecar, exact=exact)
    stored = [view for view in shown if view.voxels]
    separate = sum(len(view.voxels) for view in stored) > most_bytes
    picture, description = _picture(
        {labels[name]: volumes[name] for name in labels if name in volumes}, volumes.get("uncertainty")
    )
    for view in shown:
        view.metadata["file"] = f"{folder}/{view.metadata['name']}.js" if separate and view.voxels else ""
    html = render(
        "translation.html.j2",
        title=f"Synthetic {domain}".strip() if domain else "Translated volume",
        cards=_cards(sidecar, volumes["fake"]),
        warnings=_warnings(sidecar, scores),
        scores=_score_table(scores) if isinstance(scores, Evaluation) else None,
        rounding=_describe_rounding(shown),
        kinds=_kinds(shown),
        overlays=[view.metadata for view in shown if view.metadata["overlay"]],
        volumes=[view.metadata for view in shown],
        voxels=[] if separate else [(view.metadata["name"], view.voxels) for view in stored],
        voxel_files=[view.metadata["file"] for view in stored] if separate else [],
        niivue=niivue(),
        picture=picture,
        picture_description=description,
        charts=_charts(sidecar),
        provenance=plain_rows(sidecar),
    )
    return TranslationPage(html, {view.metadata["file"]: _as_script(view) for view in stored} if separate else {})


def _domain(sidecar: Mapping[str, Any], end: str) -> str:
    """Return the name of the domain ``from`` or ``to`` in a sidecar, or an empty string."""
    entry = sidecar.get(end)
    return str(entry.get("domain", "")) if isinstance(entry, Mapping) else ""


def _maps(volumes: Mapping[str, Volume], sidecar: Mapping[str, Any], *, exact: bool) -> list[ViewedVolume]:
    """Return the error, if there is a reference, and the uncertainty map, if there is one."""
    maps = []
    if "reference" in volumes and (error := view_error(volumes["fake"], volumes["reference"])) is not None:
        maps.append(error)
    if "uncertainty" in volumes:
        # Its values are in the target's unit.
        uncertainty = volumes["uncertainty"].replace(modality=volumes["fake"].modality)
        maps.append(view_volume(uncertainty, "uncertainty", _map_label(sidecar), colormap="inferno", exact=exact))
    return maps


def _describe_rounding(shown: Sequence[ViewedVolume]) -> str:
    """Return the largest rounding error of each volume that is rounded."""
    rounded = [view.metadata for view in shown if view.metadata.get("rounded")]
    return ", ".join(f"{view['slope'] / 2:.2g} {view['unit']} ({view['label']})" for view in rounded)


def _score_table(scores: Evaluation) -> dict[str, Any]:
    """Return the scores of the fake and of its baselines: a row per metric, a column per method."""
    rows = [
        {"name": name, "meaning": MEANINGS[name], "cells": [number(getattr(each, name)) for each in methods]}
        for methods in [[scores, *scores.baselines.values()]]
        for name in MEANINGS
        if getattr(scores, name) is not None
    ]
    columns = [
        ("input as output" if key == "input" else key.replace("_", " "), BASELINES[key]) for key in scores.baselines
    ]
    best = scores.baseline
    verdict = ""
    if scores.baselines:
        name = "input as output" if best.scored == "input" else best.scored.replace("_", " ")
        compared = "lower than" if scores.mae < best.mae else "higher than" if scores.mae > best.mae else "equal to"
        verdict = (
            f"The MAE of the translation, {number(scores.mae)}, is {compared} that of the best baseline ({name}), "
            f"{number(best.mae)}."
        )
    unit = f"Errors are in {scores.unit}." if scores.unit == "HU" else f"Errors are a fraction {scores.unit}."
    scaled = "" if scores.normalization == "none" else f" Intensities were first scaled: {scores.normalization}."
    return {
        "rows": rows,
        "columns": columns,
        "verdict": verdict,
        "legend": f"Inside the mask of the patient. {unit}{scaled}",
        "notes": scores.notes,
    }


def _as_script(view: ViewedVolume) -> bytes:
    """Return voxels as a script, because a page opened from disk may load scripts next to it, but no other files."""
    name = json.dumps(view.metadata["name"])
    return f"(window.medcycleganVoxels ??= {{}})[{name}] = {json.dumps(view.voxels)};\n".encode()


def _kinds(shown: Sequence[ViewedVolume]) -> list[dict[str, Any]]:
    kinds: dict[str, dict[str, Any]] = {}
    for view in shown:
        kind = view.metadata["kind"]
        if kind != "map" and kind not in kinds:
            presets = [name for name, _, _ in view.metadata["presets"]]
            kinds[kind] = {"name": kind, "label": f"{kind} window", "presets": presets}
    return list(kinds.values())


def _picture(volumes: Mapping[str, Volume], uncertainty: Volume | None) -> tuple[str, str]:
    columns = ", ".join([*volumes, *(["uncertainty"] if uncertainty is not None else [])])
    planes = "The image" if 1 in next(iter(volumes.values())).shape else "Three planes through the middle of the head"
    picture = preview(volumes, uncertainty=uncertainty, unit="")
    return webp_url(picture), f"{planes}; columns: {columns}."


def _cards(sidecar: Mapping[str, Any], fake: Volume) -> list[tuple[str, str]]:
    cards = [("voxels", " x ".join(str(n) for n in fake.shape))]
    cards.append(("spacing", " x ".join(f"{mm:.3g}" for mm in fake.spacing_mm) + " mm"))
    quality = sidecar.get("quality")
    if isinstance(quality, Mapping) and quality.get("verdict"):
        cards.insert(0, ("quality", str(quality["verdict"])))
    expected = quality.get("expected_error") if isinstance(quality, Mapping) else None
    if isinstance(expected, Mapping) and isinstance(expected.get("patient"), Mapping):
        cards.append(("expected MAE", _expected(expected["patient"], sidecar)))
    if sidecar.get("model"):
        cards.append(("model", str(sidecar["model"])[:12]))
    return cards


def _expected(patient: Mapping[str, Any], sidecar: Mapping[str, Any]) -> str:
    """Return the expected MAE with its interval and unit."""
    target = sidecar.get("to")
    scaling = target.get("scaling") if isinstance(target, Mapping) else None
    unit = f" {scaling['unit']}" if isinstance(scaling, Mapping) and "unit" in scaling else ""
    mae, *limits = _shares([patient.get("mae"), *(patient.get("interval_90") or [])])
    span = f" ({limits[0]:.3g} to {limits[1]:.3g})" if len(limits) == 2 else ""
    return f"{mae:.3g}{span}{unit}"


def _uncertainty(sidecar: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the sidecar of the fake says about the uncertainty map; empty if it says nothing."""
    made = sidecar.get("uncertainty")
    return made if isinstance(made, Mapping) else {}


def _map_label(sidecar: Mapping[str, Any]) -> str:
    """Return what the uncertainty map is."""
    made = _uncertainty(sidecar)
    if "calibrated" not in made:
        return "uncertainty map"
    if not made["calibrated"]:
        return "uncertainty map, not calibrated"
    (coverage,) = _shares([made.get("coverage")])
    return f"half-width of the {coverage:.0%} interval"


def _charts(sidecar: Mapping[str, Any]) -> list[Chart]:
    """Return the reliability diagram of the intervals in the map; none if it is not calibrated."""
    reliability = _uncertainty(sidecar).get("reliability")
    if not isinstance(reliability, Mapping):
        return []
    asked, found = (_shares(reliability.get(name)) for name in ("coverages", "found"))
    title = "Coverage on the calibration patients, each by the intervals from the others"
    return [reliability_chart(title, asked, {"in the patient": found[: len(asked)]})] if any(found) else []


def _shares(values: Any) -> list[float]:
    """Return the numbers of a sidecar; raise ReadError for anything else, because anyone can edit a sidecar."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        raise ReadError(f"the JSON file next to the volume is damaged: {str(values)[:60]} are not numbers") from None
    return numbers


def _warnings(sidecar: Mapping[str, Any], scores: Evaluation | str | None) -> list[str]:
    warnings = [f"There are no scores: {scores}"] if isinstance(scores, str) else []
    if not sidecar:
        return [*warnings, "There is no record next to this volume of how it was made."]
    quality = sidecar.get("quality")
    if isinstance(quality, Mapping):
        reasons = quality.get("reasons")
        warnings += [str(reason) for reason in reasons] if isinstance(reasons, list) else []
    if sidecar.get("forced"):
        warnings.append(
            "The model was trained on another modality than that of the input, which was accepted with --force."
        )
    return warnings
