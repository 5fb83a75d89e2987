"""Shipped models on real heads, for shipped_models.py."""

import dataclasses
from pathlib import Path

import numpy as np
import SimpleITK

from medcyclegan import ModelBundle, Volume, read_volume, translate_volume
from medcyclegan.metrics import erode_mm, head_mask, mae, ncc, psnr, ssim
from medcyclegan.pictures import comparison_panel
from medcyclegan.pictures.drawing import grey_tile, join, labelled

#: Test subjects with T1 and T2, by the start of the models' names. Nothing was trained on them.
PAIRS = {"head": "openms_patient04", "brain": "openms_mni19"}
#: Real T1 heads with skull, which have no CT.
T1_HEADS = ("openms_patient04", "openms_patient12", "tcga_fg_6692")
#: HU from which a voxel counts as bone.
BONE_HU = 300.0
#: Voxels further than this from the surface of the head count as brain.
DEPTH_MM = 16.0
#: Width and height of a tile, in pixels.
TILE = (240, 256)
MEASURES = {
    "mae": mae,
    "psnr": lambda fake, truth, mask: psnr(fake, truth, value_range=(0.0, 1.0), mask=mask),
    "ssim": lambda fake, truth, mask: ssim(fake, truth, value_range=(0.0, 1.0), mask=mask),
    "ncc": ncc,
}


def score_real(scans: Path, bundles: dict[str, ModelBundle], out: Path) -> list[dict]:
    """Print what can be said of each model on real heads, save pictures, and return the scores as JSON values."""
    table = []
    for name, bundle in bundles.items():
        a, b = (domain.name for domain in bundle.domains)
        if "ct" in (a, b):
            table += score_without_truth(scans, name, bundle, out)
            table += score_ct_heads(scans, name, bundle, out)
        else:
            table += score_pair(scans / PAIRS[name.split("-")[0]], name, bundle, out)
    return table


def score_pair(subject: Path, name: str, bundle: ModelBundle, out: Path) -> list[dict]:
    t1, t2 = (SimpleITK.ReadImage(subject / f"{c}.nii.gz", SimpleITK.sitkFloat32) for c in ("t1", "t2"))
    real = {}
    for contrast, image in (("t1", t1), ("t2", SimpleITK.Resample(t2, t1))):
        SimpleITK.WriteImage(image, out / f"{name}-{contrast}.nii.gz")
        real[contrast] = read_volume(out / f"{name}-{contrast}.nii.gz")
    head = head_mask(real["t1"])
    regions = {"head": head, "brain": erode_mm(head, real["t1"].spacing_mm, DEPTH_MM)}
    print(f"\n{name} on {subject.name}: output / input taken as the output")
    table, rows = [], []
    for source, target in (("t1", "t2"), ("t2", "t1")):
        fake = translate_volume(real[source], bundle, to=target)
        for region, mask in regions.items():
            images = [to_unit(v.array, mask) for v in (fake, real[source], real[target])]
            scores = {
                key: [measure(image, images[2], mask) for image in images[:2]] for key, measure in MEASURES.items()
            }
            cells = "  ".join(f"{key} {ours:.3f} / {theirs:.3f}" for key, (ours, theirs) in scores.items())
            print(f"  {source} to {target}, {region:<6} {cells}")
            table.append({"model": name, "on": subject.name, "region": region, "direction": f"{source} to {target}"})
            table[-1]["scores"] = scores
        for share in (0.4, 0.55, 0.7):
            k = int(share * head.shape[2])
            planes = {"input": real[source], "fake": fake, "truth": real[target]}
            rows.append({key: plane(to_unit(v.array, head), real["t1"], k) for key, v in planes.items()})
    ranges = dict.fromkeys(("input", "fake", "truth"), (0.0, 1.0))
    comparison_panel(rows, ranges=ranges, error_range=1.0).save(out / f"{name}-real.png")
    return table


def score_without_truth(scans: Path, name: str, bundle: ModelBundle, out: Path) -> list[dict]:
    source = next(domain.name for domain in bundle.domains if domain.name != "ct")
    table, rows = [], []
    print(f"\n{name} on real {source.upper()} heads, which have no CT: HU in the head, bone, air outside the head")
    for subject in T1_HEADS:
        real = read_volume(scans / subject / f"{source}.nii.gz")
        ct = translate_volume(real, bundle, to="ct")
        back = translate_volume(dataclasses.replace(ct, synthetic=False), bundle, to=source)
        head = head_mask(real)
        quartiles = np.percentile(ct.array[head], (25, 50, 75))
        bone = float((ct.array[head] > BONE_HU).mean())
        outside = float((ct.array[~head] < -800).mean())
        correlation = float(np.corrcoef(back.array[head], real.array[head])[0, 1])
        print(
            f"  {subject:<18} quartiles {quartiles.round(0)} HU, bone {100 * bone:.1f} %, air outside "
            f"{100 * outside:.1f} %, correlation of the cycle {correlation:.3f}"
        )
        table.append({"model": name, "on": subject, "quartiles_hu": quartiles.tolist(), "bone": bone})
        for share in (0.45, 0.65):
            k = int(share * head.shape[2])
            images = {
                source.upper(): to_unit(real.array, head),
                "synthetic CT, -200 to 1200 HU": (ct.array + 200.0) / 1400.0,
                f"{source.upper()} of the synthetic CT": to_unit(back.array, head),
            }
            rows.append([labelled(grey_tile(plane(i, real, k), 0, 1, size=TILE), title) for title, i in images.items()])
    join(rows).save(out / f"{name}-real.png")
    return table


def score_ct_heads(scans: Path, name: str, bundle: ModelBundle, out: Path) -> list[dict]:
    """Translate real CT heads, which have no MR, to MR and back: how much of the CT is restored.

    The second one is resampled from thick slices with gaps, so its error includes that of the interpolation.
    """
    target = next(domain.name for domain in bundle.domains if domain.name != "ct")
    vtk = read_volume(scans / "ct_head_vtk_headsq.nii.gz")
    tilted = scans.parent / "dicom" / "ct_ge_hispeed_tilt" / "in"
    heads = {
        # This file holds about HU + 1024.
        "ct_head_vtk_headsq": dataclasses.replace(vtk, array=vtk.array.astype(np.float32) - 1024.0, modality="CT"),
        "ct_ge_hispeed_tilt": read_volume(tilted, resample_tilt=True, allow_gap=True),
    }
    table, rows = [], []
    print(f"\n{name} on real CT heads, to {target.upper()} and back")
    for subject, real in heads.items():
        mr = translate_volume(real, bundle, to=target)
        back = translate_volume(dataclasses.replace(mr, synthetic=False), bundle, to="ct")
        head = head_mask(real)
        error, water = (mae(array, real.array, mask=head) for array in (back.array, np.zeros_like(real.array)))
        print(f"  {subject:<18} MAE of the cycle {error:.0f} HU in the head (water: {water:.0f} HU)")
        table.append({"model": name, "on": subject, "cycle_mae_hu": [float(error), float(water)]})
        for share in (0.5, 0.7):
            k = int(share * head.shape[2])
            images = {
                "CT, -200 to 1200 HU": (real.array + 200.0) / 1400.0,
                f"synthetic {target.upper()}": to_unit(mr.array, head),
                f"CT of the synthetic {target.upper()}": (back.array + 200.0) / 1400.0,
            }
            rows.append([labelled(grey_tile(plane(i, real, k), 0, 1, size=TILE), title) for title, i in images.items()])
    join(rows).save(out / f"{name}-ct-heads.png")
    return table


def to_unit(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    low, high = np.percentile(array[mask], (0.5, 99.5))
    return np.clip((array - low) / (high - low), 0, 1).astype(np.float32)


def plane(array: np.ndarray, volume: Volume, k: int) -> np.ndarray:
    """Return slice ``k`` of a nearly axial grid with anterior at the top and the patient's right on the left."""
    first = array[:, :, k] if volume.orientation[0] == "L" else array[::-1, :, k]
    second = first if volume.orientation[1] == "P" else first[:, ::-1]
    return np.ascontiguousarray(second.T.astype(np.float32))
