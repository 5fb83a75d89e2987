"""Print the coverage of a calibrated model's prediction intervals, and which unusual inputs and lesions are found.

python tests/benchmarks/intervals.py MODEL CASES --to DOMAIN [--real SCANS] [--labels MAP] [--odd N] [--maps N]

MODEL is calibrated (medcyclegan calibrate). CASES holds patients that pipelines/calibration_cases.py generated from
label maps of which neither the training nor the calibration used any. SCANS: the scans of docs/results.md, of which
openms_patient04 is scored, or openms_mni19 by a model of brains. MAP: a label map into whose brain lesions are painted
that no training contained.

Up to 16 axial slices of each case are translated, so "smoothed over 3 mm" is within slices; with --maps N, N whole
cases are also translated and compared with the uncalibrated map, smoothed in 3-D. Times are CPU seconds.
"""

import argparse
import csv
import dataclasses
import resource
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from intervals_inputs import ODD_INPUTS, draw_unknown_lesions
from scipy import ndimage, stats

from medcyclegan import ModelBundle, read_volume
from medcyclegan.errors import UsageError
from medcyclegan.evaluation.calibration.measure import MeasuredCase, measure_case
from medcyclegan.inference import InferenceOptions, interval_half_width, translate, uncertainty_map
from medcyclegan.inference.intervals.half_width import expect_case_error
from medcyclegan.inference.intervals.signals import every_nth_slice, expected_error
from medcyclegan.inference.intervals.tissue_classes import classes_of, patient_mask
from medcyclegan.metrics.conformal import LEVELS, mean_quantiles, patient_quantiles
from medcyclegan.model.calibration import HEAD, Calibration
from medcyclegan.model.domains import half_range
from medcyclegan.synthesis import TISSUES
from medcyclegan.synthesis.tissues import BRAIN, LESIONS, tissue_index, tissue_indices

#: Lesions smaller than a sphere of this diameter are not scored, in mm.
SMALLEST_MM = 6.0
SMOOTHED_MM = 3.0
COVERAGES = (0.9, 0.95)
#: Real subjects of whom no training used a scan. T1 and T2 of the other heads are not aligned (registration.py).
REAL = {"head": "openms_patient04", "brain": "openms_mni19"}
OPTIONS = InferenceOptions(device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--to", required=True)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--odd", type=int, default=10, help="cases of each kind of unusual input")
    parser.add_argument("--maps", type=int, default=3, help="whole cases on which maps and their costs are compared")
    arguments = parser.parse_args()
    bundle = ModelBundle.load(arguments.model)
    direction = bundle.direction(arguments.to)
    calibration = bundle.calibration(direction)
    assert calibration is not None, "the model is not calibrated"
    source = direction.source.name
    print(
        f"{source} to {arguments.to}: calibrated on {calibration.patients} patients, error head fitted on "
        f"{calibration.fitted_on}; unit {calibration.unit}",
        flush=True,
    )
    rows = list(csv.DictReader((arguments.cases / f"{source}-to-{arguments.to}.csv").open()))
    scores = Scores(calibration, half_range(direction.target.scaling))
    for row in rows:
        case, tissues = load_case(arguments.cases, row, bundle, arguments.to)
        scores.add(case, tissues)
    scores.print("synthetic cases")
    if arguments.real is not None:
        name = REAL["brain" if Path(arguments.model).name.startswith("brain") else "head"]
        score_real(arguments.real / name, bundle, arguments.to, calibration)
    if arguments.odd:
        score_odd_inputs(arguments.cases, rows[: arguments.odd], bundle, arguments.to, scores.distances)
    if arguments.labels is not None:
        score_unknown_lesions(arguments.labels, bundle, arguments.to)
    if arguments.maps:
        compare_maps(arguments.cases, rows[: arguments.maps], bundle, arguments.to)


def load_case(folder: Path, row: dict[str, str], bundle: ModelBundle, to: str) -> tuple[MeasuredCase, np.ndarray]:
    """Return a measured case and the true tissues of its slices."""
    source, truth = read_volume(folder / row["input"]), read_volume(folder / row["reference"])
    case = measure_case(source, truth.replace(modality=modality(to)), bundle.direction(to), OPTIONS)
    tissues, _ = every_nth_slice(read_volume(folder / "tissues" / f"{row['case']}.nii.gz"), 16)
    return case, np.rint(tissues.array).astype(np.uint8)


def modality(domain: str) -> str:
    return "CT" if domain == "ct" else "MR"


def smoothed(values: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    sigma = [0.5 * SMOOTHED_MM / mm if mm < SMOOTHED_MM * 2 else 0.0 for mm in spacing_mm]
    return ndimage.gaussian_filter(values.astype(np.float32), sigma, mode="nearest")


def area_under_curve(negative: np.ndarray, positive: np.ndarray) -> float:
    """Return the probability that a positive scores above a negative (Mann-Whitney)."""
    ranks = stats.rankdata(np.concatenate([negative, positive]))[len(negative) :]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


class Scores:
    """The figures of cases, one by one."""

    def __init__(self, calibration: Calibration, scale: float) -> None:
        self.calibration, self.scale = calibration, scale
        self.covered = {coverage: defaultdict(list) for coverage in COVERAGES}
        self.by_tissue, self.lesions = defaultdict(list), defaultdict(list)
        self.widths, self.absolute, self.correlations = [], [], []
        self.mae, self.p_values, self.distances = [], [], []

    def add(self, case: MeasuredCase, tissues: np.ndarray | None) -> None:
        calibration = self.calibration
        expected = expected_error(calibration.head, case.volume, case.done)
        classes = classes_of(case.done, case.inside, calibration.levels)
        for coverage in COVERAGES:
            width = expected * calibration.factors(coverage)[classes]
            hit = case.error <= width
            self.covered[coverage][HEAD].append(hit[case.inside].mean())
            for number, name in enumerate(calibration.classes):
                where = (classes == number) & case.known
                if where.sum() >= 50:
                    self.covered[coverage][name].append(hit[where].mean())
            if coverage == COVERAGES[0]:
                self.widths.append(float(width[case.inside].mean()))
                if tissues is not None:
                    self.add_tissues(hit, tissues, case)
        self.absolute.append(patient_quantiles(case.error[case.inside]))
        error = smoothed(case.error, case.volume.spacing_mm)
        self.correlations.append(float(np.corrcoef(expected[case.inside], error[case.inside])[0, 1]))
        found = expect_case_error(case.volume, case.done, calibration, case.inside)
        for region, (mae, span) in found.regions.items():
            number = 0 if region == HEAD else calibration.classes.index(region)
            where = case.inside if region == HEAD else classes == number
            if where.sum() >= 50:
                self.mae.append((region, mae, span, float(case.error[where].mean()) * self.scale))
        self.p_values.append(found.p_value)
        self.distances.append(found.distance)
        if tissues is not None:
            for kind, area in lesion_areas(expected, tissues, case.volume.spacing_mm):
                self.lesions[kind].append(area)

    def add_tissues(self, hit: np.ndarray, tissues: np.ndarray, case: MeasuredCase) -> None:
        for number in np.unique(tissues[case.inside]):
            where = (tissues == number) & case.inside
            if where.sum() >= 50:
                self.by_tissue[TISSUES[number].name].append(hit[where].mean())

    def print(self, title: str) -> None:
        for coverage in COVERAGES:
            try:
                self.calibration.check_coverage(coverage)
            except UsageError as error:
                print(f"{coverage}: {error}")
                continue
            cells = [f"{name} {np.mean(v):.3f}" for name, v in self.covered[coverage].items()]
            print(f"coverage of {coverage:.0%} intervals on {len(self.widths)} {title}: {', '.join(cells)}")
        spread = np.quantile(self.covered[0.9][HEAD], (0.05, 0.5, 0.95))
        print(f"  coverage of single cases, 5th, 50th and 95th percentile: {spread.round(3)}")
        if self.by_tissue:
            cells = [f"{name} {np.mean(v):.2f}" for name, v in sorted(self.by_tissue.items())]
            print(f"  by true tissue: {', '.join(cells)}")
        level = float(np.mean(self.covered[0.9][HEAD]))
        constant = float(np.interp(level, LEVELS, mean_quantiles(np.stack(self.absolute))))
        width = float(np.mean(self.widths))
        print(
            f"  mean half-width {width * self.scale:.1f}, constant one of the same coverage "
            f"{constant * self.scale:.1f}: {width / constant:.2f}"
        )
        print(f"  correlation with the error smoothed over 3 mm: mean {np.mean(self.correlations):.3f}, "
              f"least {min(self.correlations):.3f}")  # fmt: skip
        for region in dict.fromkeys(r for r, *_ in self.mae):
            rows = [(e, span, t) for r, e, span, t in self.mae if r == region]
            expected, true = [e for e, _, _ in rows], [t for _, _, t in rows]
            inside = [span[0] <= t <= span[1] for _, span, t in rows if span is not None]
            rank = stats.spearmanr(expected, true)[0] if len(rows) > 2 else float("nan")
            print(
                f"  expected MAE, {region}: rank correlation {rank:.2f}, true {np.mean(true):.1f} ({min(true):.1f} to "
                f"{max(true):.1f}), in the interval {np.mean(inside) if inside else float('nan'):.2f}"
            )
        flagged = np.mean([p <= 0.04 for p in self.p_values])
        print(f"  false alarms (unfamiliar): {flagged:.3f}")
        for kind, areas in sorted(self.lesions.items()):
            print(
                f"  lesions of 6 mm and more, AUC of the interval in the brain: {kind} {np.mean(areas):.2f} "
                f"({len(areas)} patients)"
            )
        print(flush=True)


def lesion_areas(values: np.ndarray, tissues: np.ndarray, spacing_mm: tuple[float, ...]):
    """Yield kind and AUC of lesions that are large enough, against healthy brain."""
    brain = np.isin(tissues, tissue_indices(*BRAIN))
    smallest = np.pi / 4 * SMALLEST_MM**2 / (spacing_mm[0] * spacing_mm[1])
    for kind in LESIONS:
        parts, count = ndimage.label(tissues == tissue_index(kind))
        sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
        large = np.isin(parts, 1 + np.flatnonzero(sizes >= smallest))
        if large.any() and brain.any():
            yield kind, area_under_curve(values[brain][::7], values[large])


def score_real(subject: Path, bundle: ModelBundle, to: str, calibration: Calibration) -> None:
    direction = bundle.direction(to)
    files = [subject / f"{domain}.nii.gz" for domain in (direction.source.name, to)]
    if not all(file.exists() for file in files):
        return
    scores = Scores(calibration, half_range(direction.target.scaling))
    source, truth = (read_volume(file) for file in files)
    scores.add(measure_case(source, truth, direction, OPTIONS), None)
    scores.print(f"real case, {subject.name}")
    print(f"  p-value of the input {scores.p_values[0]:.3f}, distance {scores.distances[0]:.2f}")


def score_odd_inputs(folder: Path, rows: list[dict[str, str]], bundle: ModelBundle, to: str, good: list[float]) -> None:
    """Print how well the distance separates unusual inputs from the good cases."""
    direction, areas = bundle.direction(to), []
    calibration = bundle.calibration(direction)
    farthest = np.quantile(calibration.familiarity.distances, 0.96)
    for kind, change in ODD_INPUTS.items():
        distances = []
        for row in rows:
            changed = change(folder, row, direction.source.name)
            if changed is None:
                continue
            volume, _ = every_nth_slice(changed, 16)
            done = translate(volume, direction, OPTIONS, force=True)
            whole = patient_mask(changed, done)
            _, kept = every_nth_slice(changed, 16)
            distances.append(expect_case_error(volume, done, calibration, whole[:, :, kept]).distance)
        if distances:
            area = area_under_curve(np.array(good), np.array(distances))
            areas.append(area)
            found = np.mean(np.array(distances) > farthest)
            print(f"unusual input, {kind:24} AUC {area:.3f}, found {found:.2f} ({len(distances)} cases)", flush=True)
    print(f"  mean AUC {np.mean(areas):.3f}\n", flush=True)


def score_unknown_lesions(labels: Path, bundle: ModelBundle, to: str) -> None:
    """Print the AUC of the interval and of the uncalibrated map for lesions that no training contained."""
    direction = bundle.direction(to)
    calibration = bundle.calibration(direction)
    areas = defaultdict(list)
    for seed in range(3):
        scan, where, brain = draw_unknown_lesions(labels, seed, direction.source.name)
        done = translate(scan, direction, OPTIONS)
        maps = {
            "interval": interval_half_width(scan, done, calibration).array,
            "cycle": uncertainty_map(scan, done, OPTIONS).array,
            "edges": smoothed(ndimage.gaussian_gradient_magnitude(scan.array.astype(np.float32), 1.0), scan.spacing_mm),
        }
        for kind, mask in where.items():
            for name, values in maps.items():
                areas[kind, name].append(area_under_curve(values[brain][::7], values[mask]))
    for kind in dict.fromkeys(kind for kind, _ in areas):
        cells = [f"{name} {np.mean(v):.2f}" for (k, name), v in areas.items() if k == kind]
        print(f"lesions of a kind in no training set, AUC: {kind:12} {', '.join(cells)}")
    print(flush=True)


def compare_maps(folder: Path, rows: list[dict[str, str]], bundle: ModelBundle, to: str) -> None:
    """Print correlation with the error smoothed over 3 mm in 3-D, and the cost, of several maps on whole cases."""
    direction = bundle.direction(to)
    calibration = bundle.calibration(direction)
    modes = {
        "interval": (OPTIONS, True),
        "uncalibrated, one pass": (OPTIONS, False),
        "uncalibrated, --tta": (dataclasses.replace(OPTIONS, tta=True), False),
    }
    found = defaultdict(list)
    for row in rows:
        source, truth = (read_volume(folder / row[key]) for key in ("input", "reference"))
        truth = truth.replace(modality=modality(to))
        error, inside = None, None
        for name, (options, calibrated) in modes.items():
            started = time.process_time()
            done = translate(source, direction, options, spread=not calibrated)
            middle = time.process_time()
            if calibrated:
                values = interval_half_width(source, done, calibration).array
            else:
                values = uncertainty_map(source, done, options).array
            ended = time.process_time()
            if error is None:
                from medcyclegan.model.domains import source_scaling

                scaled = source_scaling(truth, direction.target).normalize(truth.array)
                error = np.abs(direction.target.scaling.normalize(done.volume.array) - scaled)
                error, inside = smoothed(error, source.spacing_mm), patient_mask(source, done)
                edges = smoothed(
                    ndimage.gaussian_gradient_magnitude(source.array.astype(np.float32), 1.0), source.spacing_mm
                )
                found["edges of the input"].append((np.corrcoef(edges[inside], error[inside])[0, 1], 0.0, 0.0))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            found[name].append((np.corrcoef(values[inside], error[inside])[0, 1], middle - started, ended - middle))
    print(
        f"{'map, ' + str(len(rows)) + ' whole cases':28}{'r':>7}{'translate s':>13}{'map s':>8}   peak memory of the "
        f"process {peak:.2f} GB"
    )
    for name, values in found.items():
        r, first, second = np.mean(values, axis=0)
        print(f"{name:28}{r:7.3f}{first:13.1f}{second:8.1f}")


if __name__ == "__main__":
    main()
