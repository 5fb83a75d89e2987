"""Print the figures of the evaluation: our metrics and the challenges' definitions, baselines, real scans, speed.

    python tests/benchmarks/evaluation_figures.py [metrics] [baselines] [real] [speed]

``metrics`` computes the other column if scikit-image is installed (it is not a dependency); otherwise the figures
recorded in tests/metrics/test_image_metrics.py are printed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage, signal

from medcyclegan.intensity import IntensityScaling
from medcyclegan.io import write_volume
from medcyclegan.metrics import head_mask, mae, means_of_pairs, means_of_shares, ms_ssim, psnr, ssim
from medcyclegan.phantom import ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.volume import Volume

DATA = Path(__file__).parents[3] / "shared/data/nifti"
HU_2025, HU_2023 = (-1024.0, 3071.0), (-1024.0, 3000.0)
NAMES = ("mae", "psnr 2025", "ms_ssim 2025", "psnr 2023", "ssim 2023")


def main() -> None:
    chosen = sys.argv[1:] or ["metrics", "baselines", "real", "speed"]
    if "metrics" in chosen:
        print_metrics()
    if "baselines" in chosen:
        print_baselines()
    if "real" in chosen:
        print_real()
    if "speed" in chosen:
        print_speed()


def print_metrics() -> None:
    """Compare our scores and theirs on synthetic cases."""
    spec = importlib.util.spec_from_file_location("made", Path(__file__).parents[1] / "metrics/test_image_metrics.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    live = importlib.util.find_spec("skimage") is not None
    title = "scikit-image and the plain definition" if live else "theirs (recorded)"
    print(f"{'case':16} {'metric':14} {'ours':>20} {title:>38} {'difference':>12}")
    for shape, recorded in made.FIGURES.items():
        fake, reference, mask = made.made_case(shape)
        ours = (
            mae(fake, reference, mask),
            psnr(fake, reference, value_range=HU_2025, mask=mask),
            ms_ssim(fake, reference, value_range=HU_2025, mask=mask),
            psnr(fake, reference, value_range=HU_2023, mask=mask),
            ssim(fake, reference, value_range=HU_2023, mask=mask),
        )
        theirs = plain_scores(fake, reference, mask) if live else recorded
        for name, one, other in zip(NAMES, ours, theirs, strict=True):
            print(f"{'x'.join(map(str, shape)):16} {name:14} {one:20.12f} {other:38.12f} {abs(one - other):12.1e}")


def plain_scores(fake, reference, mask):
    """The same scores by scikit-image, and MS-SSIM as SynthRAD2025 defines it, on whole arrays, step by step."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    def prepared(array, value_range):
        return np.where(mask, np.clip(array, *value_range), value_range[0]) - value_range[0]

    inner = (slice(3, -3),) * 3
    scores = [np.abs(fake - reference)[mask].mean()]
    for value_range in (HU_2025, HU_2023):
        width = value_range[1] - value_range[0]
        clipped = [np.clip(array, *value_range)[mask] for array in (reference, fake)]
        scores.append(peak_signal_noise_ratio(*clipped, data_range=width))
    pair = [prepared(array, HU_2025) for array in (reference, fake)]
    scores.insert(2, plain_ms_ssim(*pair, mask, HU_2025[1] - HU_2025[0]))
    pair = [prepared(array, HU_2023) for array in (reference, fake)]
    _, local = structural_similarity(*pair, data_range=HU_2023[1] - HU_2023[0], full=True)
    return (*scores, local[inner][mask[inner]].mean())


def plain_ms_ssim(first, second, mask, width):
    missing = [max(97 - n, 0) for n in mask.shape]
    pads = [(n // 2, n - n // 2) for n in missing]
    first, second, mask = (np.pad(array, pads, mode="edge") for array in (first, second, mask))
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    product, inner, unbiased = 1.0, (slice(3, -3),) * 3, 343 / 342
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        m1, m2 = (ndimage.uniform_filter(a, 7) for a in (first, second))
        v1, v2 = (unbiased * (ndimage.uniform_filter(a * a, 7) - m * m) for a, m in ((first, m1), (second, m2)))
        covariance = unbiased * (ndimage.uniform_filter(first * second, 7) - m1 * m2)
        s1, s2 = (np.sqrt(np.maximum(v, 0)) for v in (v1, v2))
        terms = [
            (2 * m1 * m2 + c1) / (m1**2 + m2**2 + c1),
            (2 * s1 * s2 + c2) / (v1 + v2 + c2),
            (covariance + c2 / 2) / (s1 * s2 + c2 / 2),
        ]
        local = np.prod([np.maximum(term, 0) ** weight for term in terms], axis=0)
        product *= np.clip(local[inner][mask[inner]].mean(), 0, 1)
        halves = [signal.fftconvolve(a, np.full((2, 2, 2), 1 / 8), mode="same") for a in (first, second)]
        first, second, mask = (a[::2, ::2, ::2] for a in (*halves, mask))
    return product


def print_baselines() -> None:
    """MR to CT on synthetic heads: the MAE in HU of what needs no network, mean over four heads never fitted on."""
    train, others, test = (range(first, first + 4) for first in (0, 10, 20))
    print(f"{'MR to CT, MAE in HU':28}" + "".join(f"{name:>10}" for name in ("T1", "T2")))
    errors = {name: mr_to_ct_errors(mr, train, others, test) for name, mr in (("T1", t1_volume), ("T2", t2_volume))}
    for title in errors["T1"]:
        print(f"{title:28}" + "".join(f"{errors[name][title]:10.1f}" for name in ("T1", "T2")))


def mr_to_ct_errors(mr, train, others, test):
    def head(seed):
        made = make_head(seed, shape=(72, 90, 60), spacing_mm=(2.6, 2.6, 2.6))
        source, truth = mr(made), ct_volume(made)
        scaled = IntensityScaling.fit(source.array, modality="MR").normalize(source.array)
        return source.array, scaled, truth.array, head_mask(truth), head_mask(source)

    known, unpaired = [head(seed) for seed in train], [head(seed) for seed in others]
    pairs = means_of_pairs([x[m] for _, x, _, m, _ in known], [y[m] for _, _, y, m, _ in known], len(known))
    cts = [y[m] for _, _, y, m, _ in known]
    shares = means_of_shares([x[m] for _, x, _, _, m in unpaired], cts, len(known))
    errors = {}
    for array, scaled, truth, mask, _ in map(head, test):
        noise = np.random.default_rng(0).normal(40, 30, truth.shape)
        for title, fake in {
            "the numbers of the MR": array, "noise around 40 HU": noise, "water": np.zeros(truth.shape),
            "the best constant": np.full(truth.shape, np.median(truth[mask])),
            "tissue means, by shares": shares.to_hu(scaled), "tissue means, by pairs": pairs.to_hu(scaled),
        }.items():  # fmt: skip
            errors.setdefault(title, []).append(mae(fake, truth, mask))
    return {title: float(np.mean(values)) for title, values in errors.items()}


def print_real() -> None:
    """The T1 scan scored as if it were the T2 scan: the score of no translation."""
    for name, more in (
        ("cstar_stroke_coreg", []),
        ("openms_patient12", []),
        ("openms_patient12", ["--register", "rigid"]),
    ):
        folder = DATA / name
        if not folder.is_dir():
            print(f"{name}: not there")
            continue
        scores, seconds, _, megabytes = evaluate(folder / "t1.nii.gz", folder / "t2.nii.gz", *more)
        figures = " ".join(f"{key} {scores[key]:.4g}" for key in ("mae", "psnr", "ms_ssim", "ssim_2023", "ncc"))
        print(f"{' '.join([name, *more])}: {figures}; {seconds:.1f} s, {megabytes:.0f} MB")
        for note in scores["notes"]:
            print(f"    {note}")


def print_speed() -> None:
    """Two synthetic CTs of 512 x 512 x 300, the body filling a third of the field of view, and the whole of it."""
    with tempfile.TemporaryDirectory() as folder:
        fake, reference = (Path(folder) / name for name in ("fake.nii", "reference.nii"))
        generator = np.random.default_rng(0)
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (512, 512, 300)), indexing="ij")
        body = (x / 0.75) ** 2 + (y / 0.6) ** 2 < 1
        array = np.where(body, 40 + 200 * np.sin(20 * x) * np.cos(13 * y) * np.sin(9 * z), -1000).astype(np.int16)
        affine = np.diag([0.9, 0.9, 1.5, 1.0])
        write_volume(Volume(array, affine, modality="CT"), reference)
        array += generator.integers(-30, 30, array.shape, dtype=np.int16)
        write_volume(Volume(array, affine, modality="CT"), fake)
        del x, y, z, array, body
        for title, more in (("made mask", []), ("mask of all voxels", ["--mask", str(reference)])):
            if more:
                write_volume(Volume(np.ones((512, 512, 300), np.uint8), affine), Path(folder) / "all.nii")
                more = ["--mask", str(Path(folder) / "all.nii")]
            _, seconds, used, megabytes = evaluate(fake, reference, *more)
            cores = len(os.sched_getaffinity(0))
            spent = f"{seconds:.1f} s on {cores} cores ({used:.1f} s of CPU)"
            print(f"512 x 512 x 300, {title}: {spent}, peak {megabytes:.0f} MB")


def evaluate(*arguments):
    """Run the command; return its scores, its wall time and its CPU time in s, and its peak memory in MB."""
    command = [sys.executable, "-m", "medcyclegan", "evaluate", *map(str, arguments), "--json", "-q"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    seconds = time.monotonic() - started
    return json.loads(output), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


if __name__ == "__main__":
    main()
