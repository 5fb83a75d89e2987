"""The table and the picture of real_heads.py: scores of each fake, and of its input taken as the output."""

from pathlib import Path

import numpy as np

from medcyclegan import Volume, evaluate_volumes
from medcyclegan.metrics import erode_mm, head_mask
from medcyclegan.pictures import comparison_panel

#: Voxels further than this from the surface of the head count as brain.
DEPTH_MM = 16.0
COLUMNS = (("psnr", "PSNR (dB)"), ("ssim_2023", "SSIM"), ("mae", "MAE"), ("ncc", "correlation"))
#: Metrics of which lower values are better.
FALLING = ("mae",)


def regions(real: dict[str, Volume]) -> dict[str, np.ndarray]:
    """Return masks ``(I, J, K)`` of the head, from the T1, and of the brain, which is the eroded head."""
    head = head_mask(real["t1"])
    return {"head": head, "brain": erode_mm(head, real["t1"].spacing_mm, DEPTH_MM)}


def print_scores(real: dict[str, Volume], fakes: dict[str, Volume]) -> None:
    """Print one line for each output and region; "!" marks a score that is worse than that of the input."""
    print(f"{'':<22}" + "".join(f"{title:>20}" for _, title in COLUMNS) + "   (fake / input as output; ! worse)")
    for name, fake in fakes.items():
        given = real["t1" if name == "t2" else "t2"]
        for region, mask in regions(real).items():
            score = evaluate_volumes(fake, real[name], mask=mask, baseline=given)
            cells = [cell(key, getattr(score, key), getattr(score.baselines["input"], key)) for key, _ in COLUMNS]
            print(f"synthetic {name}, {region:<8}" + "".join(f"{cell:>20}" for cell in cells))


def cell(key: str, ours: float, nothing: float) -> str:
    worse = ours > nothing if key in FALLING else ours < nothing
    return f"{ours:.3f} / {nothing:.3f}{' !' if worse else ''}"


def save_picture(real: dict[str, Volume], fakes: dict[str, Volume], out: Path) -> None:
    """Save axial planes of both directions: input, fake, truth and error, scaled by the percentiles of each volume."""
    head = regions(real)["head"]
    volumes = {("real", name): volume for name, volume in real.items()}
    volumes |= {("fake", name): volume for name, volume in fakes.items()}
    scaled = {key: to_unit(volume.array, head) for key, volume in volumes.items()}
    inside = np.flatnonzero(head.any(axis=(0, 1)))
    rows = []
    for name, other in (("t2", "t1"), ("t1", "t2")):
        for share in (0.45, 0.6, 0.75):
            k = inside[int(share * (len(inside) - 1))]
            keys = {"input": ("real", other), "fake": ("fake", name), "truth": ("real", name)}
            rows.append({key: upright(scaled[found][:, :, k], real["t1"]) for key, found in keys.items()})
    ranges = dict.fromkeys(("input", "fake", "truth"), (0.0, 1.0))
    comparison_panel(rows, ranges=ranges, error_range=1.0).save(out)


def to_unit(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array[mask], (0.5, 99.5))
    return np.clip((array - low) / (high - low), 0, 1).astype(np.float32)


def upright(plane: np.ndarray, volume: Volume) -> np.ndarray:
    """Return a plane ``(I, J)`` of a nearly axial grid with anterior at the top and the patient's right on the left."""
    first = plane if volume.orientation[0] == "L" else plane[::-1]
    second = first if volume.orientation[1] == "P" else first[:, ::-1]
    return np.ascontiguousarray(second.T)
