"""Shipped models on synthetic heads of label maps that they were not trained on, and on real test subjects.

python tests/benchmarks/shipped_models.py LABELS OUT [--real SCANS] [--model NAME=DIR]... [--patients N]

LABELS holds seg_03, seg_08, seg_14 and seg_20, which no shipped model was trained on. Inputs are scans by random
protocols, with noise and bias field; the truth is the standard image of the same patient (standard_patient). Weights
have 16 bits. Scores are means over the patients in the head, next to those of the input taken as the output (of water,
for CT), and of images that have the mean of the true tissue in each voxel. MR is scaled by the 0.5th and 99.5th
percentile in the head, in output and truth alike. OUT receives scores.json and pictures of each model. SCANS: the scans
of docs/results.md; the folder dicom next to it contains ct_ge_hispeed_tilt. Lesions are scored for models without CT.
"""

import argparse
import dataclasses
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from shipped_models_real import score_real
from shipped_models_tissues import GROUPS, lesion_contrasts, painted_with_means, tissue_errors

from medcyclegan import ModelBundle, Volume, translate_volume
from medcyclegan.metrics import head_mask, mae, ncc, psnr, ssim
from medcyclegan.model.shipped import shipped_models
from medcyclegan.pictures import comparison_panel
from medcyclegan.synthesis import Variation, draw_patient, load_head, render_patient, standard_patient
from medcyclegan.synthesis.labels import FREESURFER
from medcyclegan.synthesis.patient_files import grid_affine, scan_volume

MAPS = ("seg_03", "seg_08", "seg_14", "seg_20")
#: Voxels of all patients, in mm.
SPACING_MM = 1.5


@dataclasses.dataclass(frozen=True)
class Case:
    """A patient: scans and standard images by contrast, on one grid, the tissues and the head."""

    name: str
    scans: dict[str, Volume]
    truth: dict[str, Volume]
    tissues: np.ndarray
    head: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--patients", type=int, default=1, help="patients of each label map")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    models = dict(text.split("=", 1) for text in arguments.model) or {m.name: m.folder for m in shipped_models()}
    bundles = {name: ModelBundle.load(folder).halved() for name, folder in models.items()}

    rows, lesions, pictures = defaultdict(list), defaultdict(list), defaultdict(list)
    healthy = defaultdict(list)
    for number, map_ in enumerate(MAPS):
        for n in range(arguments.patients):
            for with_lesions in (False, True):
                for extracted in sorted({name.startswith("brain") for name in bundles}):
                    case = draw(arguments.labels / f"{map_}.nii.gz", 100 * n + number, with_lesions, extracted)
                    if not with_lesions:
                        healthy[extracted].append(case)
                    for name, bundle in bundles.items():
                        if name.startswith("brain") == extracted:
                            score(case, name, bundle, with_lesions, rows, lesions, pictures)
    table = print_scores(rows)
    for extracted, cases in healthy.items():
        print_tissue_means(cases, "extracted brains" if extracted else "heads")
    table += print_lesions(lesions)
    for name, panels in pictures.items():
        comparison_panel(panels, ranges=RANGES, error_range=1.0).save(arguments.out / f"{name}.png")
    if arguments.real is not None:
        table += score_real(arguments.real, bundles, arguments.out)
    (arguments.out / "scores.json").write_text(json.dumps(table, indent=1) + "\n")


def draw(labels: Path, seed: int, with_lesions: bool, extracted: bool) -> Case:
    head = load_head(labels, FREESURFER)
    variation = Variation(spacing_mm=SPACING_MM, lesions=float(with_lesions), extracted=float(extracted), metal=0.0)
    contrasts = ("t1", "t2") if extracted else ("t1", "t2", "ct")
    patient = draw_patient(seed, head, contrasts, variation)
    images = render_patient(patient, head, clean=True)
    standard = render_patient(standard_patient(patient), head, clean=True, truth=False)
    tissues = images.truth.cpu().numpy()
    affine = grid_affine(patient)
    truth = {
        name: Volume(image.cpu().numpy(), affine, modality="CT" if name == "ct" else "MR")
        for name, image in standard.clean.items()
    }
    scans = {name: scan_volume(images, patient, name) for name in contrasts}
    return Case(labels.name.split(".")[0], scans, truth, tissues, head_mask(truth["t1"]))


CT_RANGE = (-1024.0, 3071.0)
RANGES = dict.fromkeys(("input", "fake", "truth"), (0.0, 1.0))


def score(case: Case, name: str, bundle: ModelBundle, with_lesions: bool, rows, lesions, pictures) -> None:
    a, b = (domain.name for domain in bundle.domains)
    if with_lesions and "ct" in (a, b):
        return
    for source, target in ((a, b), (b, a)):
        fake = translate_volume(case.scans[source], bundle, to=target)
        direction, truth = f"{source} to {target}", case.truth[target]
        if with_lesions:
            images = [to_unit(volume, case) for volume in (fake, truth, case.scans[source])]
            for kind, kept in lesion_contrasts(images, case.tissues, SPACING_MM):
                lesions[name, direction, kind].append(kept)
            continue
        ours, theirs = comparable(fake, case), comparable(truth, case)
        given = np.zeros_like(theirs) if target == "ct" else to_unit(case.scans[source], case).astype(np.float32)
        found = {
            key: (measure(ours, theirs), measure(given, theirs)) for key, measure in measures(case, target).items()
        }
        errors = tissue_errors(ours, theirs, case.tissues, case.head)
        rows[name, direction].append((found, errors))
        if case.name == MAPS[0]:
            planes = {"input": case.scans[source], "fake": fake, "truth": truth}
            k = int(0.6 * case.head.shape[2])
            pictures[name].append(
                {key: np.flip(to_unit(v, case)[:, :, k].T, 0).astype(np.float32) for key, v in planes.items()}
            )


def measures(case: Case, target: str) -> dict:
    """Return the measures of an output in the domain ``target``, functions of the output and the truth."""
    value_range = CT_RANGE if target == "ct" else (0.0, 1.0)
    inside = {"mask": case.head}
    return {
        "mae": lambda fake, truth: mae(fake, truth, **inside),
        "psnr": lambda fake, truth: psnr(fake, truth, value_range=value_range, **inside),
        "ssim": lambda fake, truth: ssim(fake, truth, value_range=value_range, **inside),
        "ncc": lambda fake, truth: ncc(fake, truth, **inside),
    }


def comparable(volume: Volume, case: Case) -> np.ndarray:
    """Return HU of a CT, and values from 0 to 1 of other volumes."""
    return volume.array.astype(np.float32) if volume.modality == "CT" else to_unit(volume, case).astype(np.float32)


def to_unit(volume: Volume, case: Case) -> np.ndarray:
    """Return the values scaled to [0, 1]: CT from -200 to 1200 HU, MR by percentiles in the head."""
    low, high = (-200.0, 1200.0) if volume.modality == "CT" else np.percentile(volume.array[case.head], (0.5, 99.5))
    return np.clip((volume.array - low) / (high - low), 0, 1)


def print_scores(rows) -> list[dict]:
    """Print means over the patients; return them as JSON values."""
    table = []
    print(f"{'model':<14}{'direction':<11}{'heads':>6}{'MAE':>18}{'PSNR (dB)':>18}{'SSIM':>16}{'correlation':>16}")
    for (name, direction), found in rows.items():
        digits = 1 if direction.endswith("ct") else 3
        means = {
            key: tuple(float(np.mean([scores[key][side] for scores, _ in found])) for side in (0, 1))
            for key in ("mae", "psnr", "ssim", "ncc")
        }
        cells = [f"{means['mae'][0]:.{digits}f} / {means['mae'][1]:.{digits}f}"]
        cells += [f"{means[key][0]:.{d}f} / {means[key][1]:.{d}f}" for key, d in (("psnr", 2),)]
        cells += [f"{means[key][0]:.3f} / {means[key][1]:.3f}" for key in ("ssim", "ncc")]
        print(f"{name:<14}{direction:<11}{len(found):>6}{cells[0]:>18}{cells[1]:>18}{cells[2]:>16}{cells[3]:>16}")
        table.append({"model": name, "direction": direction, "heads": len(found), "scores": means})
    print("\nmean absolute error of each head, in the order of the label maps")
    for (name, direction), found in rows.items():
        digits = 0 if direction.endswith("ct") else 3
        print(f"{name:<14}{direction:<11}" + "".join(f"{scores['mae'][0]:>10.{digits}f}" for scores, _ in found))
    unit = "HU for CT, else of the range from 0 to 1"
    print(f"\nmean absolute error by tissue ({unit})\n{'':<25}" + "".join(f"{group:>14}" for group in GROUPS))
    for entry, ((name, direction), found) in zip(table, rows.items(), strict=True):
        digits = 1 if direction.endswith("ct") else 3
        means = {group: float(np.nanmean([errors[group] for _, errors in found])) for group in GROUPS}
        print(f"{name:<14}{direction:<11}" + "".join(f"{means[group]:>14.{digits}f}" for group in GROUPS))
        entry["tissues"] = means
    return table


def print_tissue_means(cases: list[Case], what: str) -> None:
    """Print the scores of images that have the mean of the true tissue of other patients in each voxel."""
    print(f"\n{what}: every voxel has the mean of its true tissue in the other patients")
    for target in cases[0].truth:
        truths = [comparable(case.truth[target], case) for case in cases]
        painted = painted_with_means(truths, [case.tissues for case in cases])
        found = [
            {key: measure(ours, truth) for key, measure in measures(case, target).items()}
            for ours, truth, case in zip(painted, truths, cases, strict=True)
        ]
        means = {key: float(np.mean([scores[key] for scores in found])) for key in found[0]}
        print(f"  to {target:<4} " + "  ".join(f"{key} {value:.3f}" for key, value in means.items()))


def print_lesions(lesions) -> list[dict]:
    print("\nlesions of at least 6 mm, contrast to what surrounds them (range 0 to 1): output / truth / input")
    table = []
    for (name, direction, kind), found in sorted(lesions.items()):
        ours, true, given = (float(np.mean([one[side] for one in found])) for side in range(3))
        print(f"{name:<14}{direction:<11}{kind:<22}{len(found):>4} lesions {ours:>8.3f} / {true:.3f} / {given:.3f}")
        table.append(
            {
                "model": name,
                "direction": direction,
                "lesion": kind,
                "count": len(found),
                "contrast": [ours, true, given],
            }
        )
    return table


if __name__ == "__main__":
    main()
