"""Print what three planes and 2.5-D slices do to flicker, and whether the trust map finds a translation's errors.

``python tests/benchmarks/trust.py [--steps N] [--out FOLDER]``. A T1-to-T2 model of the demo's networks is trained for
some minutes on made heads without any lesion, then translates other heads, each with three lesions of kinds that it
never saw (oedema, fat, calcification), whose true T2 is known. Figures are means over these heads, inside the head. The
true error is |fake - truth|, the truth scaled to the fake's gain, averaged over the 3 mm that the map is averaged over.
Pictures are left in FOLDER: a preview with trust map and error of every head.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from medcyclegan import slice_volumes, train, write_volume
from medcyclegan.config import load_config
from medcyclegan.inference import Computing, ModelBundle, translate, trust_map
from medcyclegan.metrics import flicker_index
from medcyclegan.phantom import Head, make_head, t1_volume, t2_volume, tissue_index
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.slicing.plane import plane_view
from medcyclegan.volume import Volume

#: 2 mm in all directions, so that coronal and sagittal slices are as fine as axial ones.
SHAPE, SPACING_MM = (96, 120, 80), (2.0, 2.0, 2.0)
#: A lesion's tissue, its centre in RAS+ mm from the head's middle, its radius in mm.
LESIONS = (("lesion", (30.0, 20.0, 30.0), 9.0), ("fat", (-30.0, -25.0, 30.0), 8.0), ("bone", (28.0, -35.0, 25.0), 7.0))
WAYS = {
    "axial": Computing(device="cpu"),
    "axial, tta": Computing(device="cpu", tta=True),
    "three planes": Computing(device="cpu", planes="three"),
    "three planes, tta": Computing(device="cpu", planes="three", tta=True),
}


def train_model(folder: Path, steps: int, heads: int, context: int) -> Path:
    """Train on ``heads`` T1 and as many other T2 heads without lesions; return the model's folder."""
    if not (folder / "slices").exists():
        for n in range(heads):
            for name, make, seed in (("t1", t1_volume, 100 + n), ("t2", t2_volume, 200 + n)):
                head = make_head(seed, shape=SHAPE, spacing_mm=SPACING_MM, lesion=False)
                write_volume(make(head), folder / "volumes" / name / f"sub-{seed}.nii")
        slice_volumes(folder / "volumes", folder / "slices", config=load_config("demo"))
    overrides = [f"training.max_steps={steps}"]
    if context > 1:
        overrides.append(f"slicing.context_slices={context}")
    run = train(folder / "slices", config=load_config("demo", overrides), out=folder / f"runs{context}", device="cpu")
    return Path(run) / "model"


def with_lesions(seed: int) -> tuple[Head, NDArray[np.uint8]]:
    """Return a head with the three lesions, and where they are: 1, 2, 3 in the order of ``LESIONS``."""
    head = make_head(seed, shape=SHAPE, spacing_mm=SPACING_MM, lesion=False)
    fractions, where = head.fractions.copy(), np.zeros(SHAPE, np.uint8)
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    place = index @ head.affine[:3, :3].T + head.affine[:3, 3]
    for number, (tissue, centre, radius) in enumerate(LESIONS, start=1):
        distance = np.linalg.norm(place - centre, axis=-1) - radius
        coverage = np.clip(0.5 - distance / SPACING_MM[0], 0, 1).astype(np.float32)
        fractions *= 1 - coverage
        fractions[tissue_index(tissue)] += coverage
        where[coverage > 0.5] = number
    return dataclasses.replace(head, fractions=fractions), where


def area_under_curve(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive voxel scores above another one (Mann-Whitney)."""
    ranks = stats.rankdata(scores)
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (positive.size - count)))


def judge(seed: int, models: dict[str, Path], out: Path, rows: dict[str, list[list[float]]]) -> None:
    """Translate one head in every way; add a row of figures to each, and draw the last."""
    head, lesions = with_lesions(seed)
    source, truth = t1_volume(head), t2_volume(head)
    inside = ndimage.binary_fill_holes(head.labels != tissue_index("air"))
    brain = np.isin(head.labels, [tissue_index(n) for n in ("grey matter", "white matter", "deep grey matter")])
    views = [plane_view(v.array, v.orientation) for v in (source, truth)]
    mask = plane_view(inside, source.orientation)
    rows.setdefault("the true T2", []).append([flicker_index(views[1], views[0], mask), *[np.nan] * 8])
    for name, way in WAYS.items():
        for kind, model in models.items():
            bundles = [ModelBundle.load(model)]
            started = time.process_time()
            done = translate(source, bundles, "t2", way, spread=True)
            seconds = time.process_time() - started
            started = time.process_time()
            trust = trust_map(source, done, bundles, way).array
            trust_seconds = time.process_time() - started
            fake = done.volume.array
            gain = float((fake * truth.array)[inside].sum() / (truth.array[inside] ** 2).sum())
            error = np.abs(fake - gain * truth.array)
            blurred = ndimage.gaussian_filter(error, [0.5 * 3.0 / mm for mm in SPACING_MM])
            scored = brain | (lesions > 0)
            areas = [
                area_under_curve(values[scored & ((lesions == n) | (lesions == 0))],
                                 (lesions == n)[scored & ((lesions == n) | (lesions == 0))])
                for values in (trust, blurred) for n in (1, 2, 3)
            ]  # fmt: skip
            flicker = flicker_index(plane_view(fake, source.orientation), views[0], mask)
            rho = stats.spearmanr(trust[inside], blurred[inside]).statistic
            r = np.corrcoef(trust[inside], blurred[inside])[0, 1]
            share = error[inside].mean() / np.percentile(gain * truth.array[inside], 99.5)
            title = name if kind == "2-D" else f"{name}, {kind}"
            rows.setdefault(title, []).append([flicker, share, seconds, trust_seconds, r, rho, *areas])
    shown = {"input T1": source, "synthetic T2": done.volume, "true T2": truth}
    drawn = truth.replace(array=blurred, modality=None)
    for kind, value in (("trust", done.volume.replace(array=trust, modality=None)), ("error", drawn)):
        where = Volume(np.where(lesions > 0, 1.0, 0.0).astype(np.float32), source.affine)
        picture = preview({**shown, "lesions": where}, trust=value, unit=kind)
        (out / f"head-{seed}-{kind}.png").write_bytes(png_bytes(picture))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training steps")
    parser.add_argument("--heads", type=int, default=8, help="heads of each contrast to train on")
    parser.add_argument("--tested", type=int, default=3, help="heads to test on")
    parser.add_argument("--out", type=Path, help="where models and pictures are kept (default: nowhere)")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        models = {}
        for kind, context in (("2-D", 1),):
            kept = sorted((out / f"runs{context}").glob("2*/model"))
            models[kind] = kept[-1] if kept else train_model(out, arguments.steps, arguments.heads, context)
        rows: dict[str, list[list[float]]] = {}
        for n in range(arguments.tested):
            judge(300 + n, models, out, rows)
    print(f"{arguments.steps} steps on {arguments.heads} heads; {arguments.tested} heads of {SHAPE}, means")
    print(f"{'':26}{'flicker':>8}{'error':>8}{'seconds':>8}{'trust s':>8}{'r':>7}{'rho':>7}   AUC of the map for"
          "      AUC of the true error for")  # fmt: skip
    print(f"{'':72}{''.join(f'{name:>8}' for name in ('oedema', 'fat', 'calcif.') * 2)}")
    for name, values in rows.items():
        mean = np.mean(values, axis=0)
        print(f"{name:26}{mean[0]:8.3f}" + "".join(
            "" if np.isnan(v) else f"{v:{form}}" for v, form in zip(
                mean[1:], ("8.3f", "8.1f", "8.1f", "7.2f", "7.2f", *["8.2f"] * 6), strict=False)))  # fmt: skip


if __name__ == "__main__":
    main()
