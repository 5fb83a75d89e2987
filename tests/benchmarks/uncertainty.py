"""Print what three planes do to flicker, and whether the uncertainty map finds a translation's errors.

``python tests/benchmarks/uncertainty.py --out FOLDER [--model DIR ...] [--heads N] [--seed SEED]``.
The models translate T1 to T2 of synthetic heads: three of ``medcyclegan demo`` with seeds 0, 1 and 2. Without
``--model`` (a demo's ``runs/latest/model``, one or several) they are trained first, some 15 minutes on one free core;
what FOLDER already holds is taken. ``--seed``: of the first head that is tested.

The tested heads were never trained on. Each has four lesions: oedema, which a third of the trained heads have, and
three of kinds that none has: fat, calcification, and tissue like muscle. Figures are means over the heads. "error":
mean of |fake - truth| in the head, the truth scaled to the fake's gain, as a share of the truth's 99.5th percentile;
for the map it is averaged over the 3 mm that the map is averaged over. "edges" are the input's own, no network asked.
Pictures in FOLDER: ``flicker-*.png``, sagittal cuts, and ``uncertainty-*.png``, axial cuts through lesions.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from medcyclegan.config import load_config
from medcyclegan.demo import run_demo
from medcyclegan.inference import InferenceOptions, translate, uncertainty_map
from medcyclegan.metrics import flicker_index
from medcyclegan.model import ModelBundle, direction_to
from medcyclegan.phantom import Head, make_head, t1_volume, t2_volume, tissue_index
from medcyclegan.pictures import png_bytes
from medcyclegan.pictures.drawing import grey_tile, heat_tile, join, labelled
from medcyclegan.plane import plane_view
from medcyclegan.volume import Volume

#: The grid that the demo trains on, and one with slices as thick as its pixels.
GRIDS = {4.0: (80, 96, 40), 2.5: (80, 96, 64)}
PIXEL_MM, FAT_SIGNAL, MEMBERS = 2.5, 0.25, 3
#: A lesion's name, its tissue, its centre in RAS+ mm, its radius in mm.
LESIONS = (
    ("oedema", "lesion", (30.0, 20.0, 30.0), 9.0),
    ("fat", "fat", (-30.0, -25.0, 30.0), 8.0),
    ("calcif.", "bone", (28.0, -35.0, 25.0), 7.0),
    ("fleshy", "muscle", (-28.0, 25.0, 25.0), 9.0),
)
#: A row's name -> how many models, and how they are asked.
WAYS = {
    "axial": (1, InferenceOptions(device="cpu")),
    "axial, tta": (1, InferenceOptions(device="cpu", tta=True)),
    "three planes": (1, InferenceOptions(device="cpu", planes="three")),
    "three models": (MEMBERS, InferenceOptions(device="cpu")),
    "three models and planes": (MEMBERS, InferenceOptions(device="cpu", planes="three")),
}
_AVERAGED_MM = 3.0
_BRAIN = ("grey matter", "white matter", "deep grey matter", "csf")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A tested head: input, truth, where the head and its brain are, and the number of the lesion in each voxel."""

    source: Volume
    truth: Volume
    inside: NDArray[np.bool_]
    brain: NDArray[np.bool_]
    lesions: NDArray[np.uint8]

    def averaged(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``values`` averaged as the uncertainty map is."""
        sigma = [0.5 * _AVERAGED_MM / mm for mm in self.source.spacing_mm]
        result: NDArray[np.float32] = ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="nearest")
        return result

    def flicker(self, values: NDArray[np.float32]) -> float:
        """Return the flicker index of ``values`` against the input, inside the head."""
        views = [plane_view(a, self.source.orientation) for a in (values, self.source.array, self.inside)]
        return flicker_index(views[0], views[1], views[2])

    def scaled_truth(self, fake: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the truth at the gain that fits ``fake`` best: a scanner's gain is arbitrary."""
        truth, inside = self.truth.array, self.inside
        return truth * np.float32((fake * truth)[inside].sum() / (truth[inside] ** 2).sum())


def make_case(seed: int, slice_mm: float) -> Case:
    """Return a head with the four lesions on the grid with slices of ``slice_mm``."""
    spacing = (PIXEL_MM, PIXEL_MM, slice_mm)
    head = make_head(seed, shape=GRIDS[slice_mm], spacing_mm=spacing, lesion=False)
    fractions, where = head.fractions.copy(), np.zeros(GRIDS[slice_mm], np.uint8)
    place = np.moveaxis(np.indices(where.shape), 0, -1) @ head.affine[:3, :3].T + head.affine[:3, 3]
    for number, (_, tissue, centre, radius) in enumerate(LESIONS, start=1):
        distance = np.linalg.norm(place - centre, axis=-1) - radius
        coverage = np.clip(0.5 - distance / PIXEL_MM, 0, 1).astype(np.float32)
        fractions *= 1 - coverage
        fractions[tissue_index(tissue)] += coverage
        where[coverage > 0.5] = number
    inside = ndimage.binary_fill_holes(head.labels != tissue_index("air"))
    brain = np.isin(head.labels, [tissue_index(name) for name in _BRAIN])
    ill: Head = dataclasses.replace(head, fractions=fractions)
    return Case(t1_volume(ill, fat_signal=FAT_SIGNAL), t2_volume(ill), inside, brain, where)


def find_models(out: Path, members: list[Path]) -> list[Path]:
    """Return the models that were named; where none was, train those that ``out`` does not hold."""
    if members:
        return members
    for seed in range(MEMBERS):
        members.append(out / f"demo-{seed}" / "runs" / "latest" / "model")
        if not members[-1].exists():
            run_demo(out / f"demo-{seed}", config=load_config("demo", [f"seed={seed}"]), device="cpu", overwrite=True)
    return members


def area_under_curve(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive voxel scores above another one (Mann-Whitney)."""
    ranks = stats.rankdata(scores)
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (positive.size - count)))


def judge_map(case: Case, values: NDArray[np.float32], error: NDArray[np.float32]) -> list[float]:
    """Return correlation and rank correlation with the error in head and brain, and the area for each lesion."""
    figures = []
    for where in (case.inside, case.brain):
        figures += [np.corrcoef(values[where], error[where])[0, 1], stats.spearmanr(values[where], error[where])[0]]
    for number in range(1, len(LESIONS) + 1):
        judged = (case.lesions == number) | ((case.lesions == 0) & case.brain)
        figures.append(area_under_curve(values[judged], case.lesions[judged] == number))
    return [float(figure) for figure in figures]


def judge_head(
    case: Case, members: list[Path], tables: list[dict[str, list[list[float]]]]
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Translate one head in every way, add a row of figures to the two tables; return the arrays to draw."""
    smooth, judged = tables
    ways = {name: (members[:count], way) for name, (count, way) in WAYS.items() if count <= len(members)}
    drawn = {}
    smooth.setdefault("the true T2", []).append([case.flicker(case.truth.array), 0.0, 1.0, 0.0])
    for name, (folders, way) in ways.items():
        bundles = [ModelBundle.load(folder) for folder in folders]
        started = time.process_time()
        done = translate(case.source, direction_to(bundles, "t2"), way, spread=True)
        seconds = time.process_time() - started
        fake = done.volume.array
        truth = case.scaled_truth(fake)
        share = np.abs(fake - truth)[case.inside].mean() / np.percentile(truth[case.inside], 99.5)
        alike = np.corrcoef(fake[case.inside], truth[case.inside])[0, 1]
        smooth.setdefault(name, []).append([case.flicker(fake), float(share), float(alike), seconds])
        uncertainty = uncertainty_map(case.source, done, way).array
        error = case.averaged(np.abs(fake - truth))
        if name == "axial":
            edges = case.averaged(ndimage.gaussian_gradient_magnitude(case.source.array.astype(np.float32), 1.0))
            judged.setdefault("edges of the input", []).append(judge_map(case, edges, error))
            judged.setdefault("the true error", []).append(judge_map(case, error, error))
        judged.setdefault(name, []).append(judge_map(case, uncertainty, error))
        drawn[name] = {"fake": fake, "truth": truth, "error": error, "uncertainty": uncertainty}
    return drawn


def print_table(title: str, columns: str, rows: Mapping[str, list[list[float]]], width: int = 9) -> None:
    """Print the mean of each row's figures."""
    print(f"\n{title}\n{'':26}{columns}")
    for name, values in rows.items():
        print(f"{name:26}" + "".join(f"{value:{width}.3f}" for value in np.mean(values, axis=0)))


def draw(case: Case, drawn: Mapping[str, dict[str, Any]], out: Path, ending: str) -> None:
    """Save sagittal cuts of the fakes beside the truth, and axial cuts of fake, error and uncertainty map."""
    white = float(np.percentile(drawn["axial"]["truth"][case.inside], 99.5))
    deep = round(4 * case.source.shape[2] * case.source.spacing_mm[2] / PIXEL_MM)
    middle = case.source.shape[0] // 2 - 6

    def sagittal(values: NDArray[np.float32], title: str) -> Any:
        return labelled(grey_tile(values[middle].T[::-1], 0.0, white, size=(4 * values.shape[1], deep)), title)

    cuts = [sagittal(drawn["axial"]["truth"], "true T2")] + [sagittal(d["fake"], name) for name, d in drawn.items()]
    (out / f"flicker{ending}").write_bytes(png_bytes(join([cuts[n : n + 3] for n in range(0, len(cuts), 3)])))
    rows = []
    for name in [name for name in ("axial", "three models") if name in drawn]:
        most = {key: float(np.percentile(drawn[name][key][case.inside], 99)) for key in ("error", "uncertainty")}
        shown = {"T1, input": case.source.array, "fake T2": drawn[name]["fake"], "true T2": drawn[name]["truth"]}
        limits = {"T1, input": float(np.percentile(case.source.array[case.inside], 99.5))}
        for number in (1, 3):
            k = int(np.argmax((case.lesions == number).sum((0, 1))))
            cut = [(title, grey_tile(a[:, :, k].T[::-1], 0.0, limits.get(title, white))) for title, a in shown.items()]
            cut += [(f"{key}, {name}", heat_tile(drawn[name][key][:, :, k].T[::-1], most[key])) for key in most]
            rows.append([labelled(tile.resize((tile.width * 3, tile.height * 3)), title) for title, tile in cut])
    (out / f"uncertainty{ending}").write_bytes(png_bytes(join(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", default=[], help="a demo's model; several: an ensemble")
    parser.add_argument("--heads", type=int, default=3, help="heads to test on")
    parser.add_argument("--seed", type=int, default=500, help="seed of the first of them")
    parser.add_argument("--out", type=Path, help="where models and pictures are kept (default: nowhere)")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        models = find_models(out, arguments.model)
        for slice_mm in GRIDS:
            tables: list[dict[str, list[list[float]]]] = [{}, {}]
            for seed in range(arguments.seed, arguments.seed + arguments.heads):
                case = make_case(seed, slice_mm)
                drawn = judge_head(case, models, tables)
            draw(case, drawn, out, f"-{slice_mm:g}mm.png")
            title = f"slices of {slice_mm} mm, {arguments.heads} heads from seed {arguments.seed}: the translations"
            print_table(title, "".join(f"{name:>9}" for name in ("flicker", "error", "r", "seconds")), tables[0])
            names = ("r head", "rho head", "r brain", "rho brain", *(f"AUC {name}" for name, *_ in LESIONS))
            print_table("the uncertainty map and the true error", "".join(f"{n:>12}" for n in names), tables[1], 12)


if __name__ == "__main__":
    main()
