"""Charts as SVG in the text color of the page, so that they are readable in light and dark mode."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

if TYPE_CHECKING:  # imported by the first chart; most pages of translations have none
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FEWEST_FOR_MEDIAN", "Chart", "curve_chart", "reliability_chart", "strip_chart"]

#: A placeholder that is replaced by the text color of the page.
_INK = "#010203"
_COLOURS = ("#2f83d0", "#d9742b", "#3c9a5f", "#b0569b", "#8a7a2c")
_POINTS = 400
#: Fewer cases do not show a distribution: only their points are drawn.
FEWEST_FOR_MEDIAN = 5
_SIZE_INCHES = (4.2, 2.5)
#: Number of letters that fit in one line of a legend.
_LEGEND_LETTERS = 64


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture with its caption and a description for screen readers."""

    svg: Markup
    caption: str
    description: str


def curve_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """Draw curves over training steps, ``{name: [(step, value), ...]}``; long ones are averaged to 400 points."""
    figure, axes = _axes()
    ranges = []
    for colour, (name, points) in zip(_COLOURS, curves.items(), strict=False):
        steps, values = _thinned(np.array(points, dtype=np.float64))
        axes.plot(steps, values, color=colour, label=name, linewidth=1.3, marker="." if len(steps) < 30 else None)
        ranges.append(f"{name} from {values[0]:.3g} to {values[-1]:.3g}")
    axes.set_xlabel("step", color=_INK)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_color(_INK)
    if len(curves) > 1:
        # As many columns as fit in the width: a wider legend would shrink the axes.
        columns = max(1, _LEGEND_LETTERS // (max(map(len, curves)) + 6))
        axes.legend(
            frameon=False, labelcolor=_INK, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns
        )
    return Chart(_svg(figure), title, f"{title}: {'; '.join(ranges)}.")


def strip_chart(title: str, groups: Mapping[str, Sequence[float]]) -> Chart:
    """Draw one dot per case for each group, ``{name: values}``, and a line at the median of five or more."""
    figure, axes = _axes()
    ranges = []
    for place, (colour, (name, values)) in enumerate(zip(_COLOURS, groups.items(), strict=False)):
        numbers = np.array([value for value in values if np.isfinite(value)])
        if not numbers.size:
            continue
        spread = np.linspace(-0.22, 0.22, numbers.size) if numbers.size > 1 else np.zeros(1)
        if numbers.size < FEWEST_FOR_MEDIAN:
            axes.scatter(place + spread, numbers, color=colour, s=32, linewidths=0)
            ranges.append(f"{name}: {', '.join(f'{value:.3g}' for value in numbers)}")
            continue
        axes.scatter(place + spread, numbers, color=colour, s=14, alpha=0.75, linewidths=0)
        axes.hlines(np.median(numbers), place - 0.32, place + 0.32, color=_INK, linewidth=1.5)
        ranges.append(f"{name}: median {np.median(numbers):.3g}, from {numbers.min():.3g} to {numbers.max():.3g}")
    axes.set_xticks(range(len(groups)), list(groups), color=_INK)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    return Chart(_svg(figure), title, f"{title}. {'; '.join(ranges)}.")


def reliability_chart(title: str, asked: Sequence[float], found: Mapping[str, Sequence[float]]) -> Chart:
    """Draw the coverage that was found against the one that was asked for, ``{name: shares}``, and the diagonal.

    A coverage of 0 means that no interval was possible; it is not drawn.
    """
    figure, axes = _axes()
    axes.plot([0.4, 1.0], [0.4, 1.0], color=_INK, linewidth=0.8, linestyle="--")
    ranges = []
    for colour, (name, shares) in zip(_COLOURS, found.items(), strict=False):
        points = [(wanted, share) for wanted, share in zip(asked, shares, strict=False) if share > 0]
        axes.plot(
            [wanted for wanted, _ in points],
            [share for _, share in points],
            color=colour,
            label=name,
            linewidth=1.3,
            marker=".",
        )
        ranges.append(f"{name}: " + ", ".join(f"{share:.1%} for {wanted:.0%}" for wanted, share in points))
    axes.set_xlabel("coverage of the intervals", color=_INK)
    axes.set_ylabel("share of voxels inside", color=_INK)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
    return Chart(_svg(figure), title, f"{title}. {'; '.join(ranges)}.")


def _axes() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(color=_INK, alpha=0.15, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    return figure, axes


def _thinned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values; if there are more than 400, the means of 400 equal parts."""
    if len(points) <= _POINTS:
        return points[:, 0], points[:, 1]
    parts = np.array_split(points, _POINTS)
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]


def _svg(figure: Figure) -> Markup:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "medcyclegan", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # The page gets only the element, without the XML declaration and the document type, which holds a URL.
    return Markup(text[text.index("<svg") :].replace(_INK, "currentColor"))  # noqa: S704
