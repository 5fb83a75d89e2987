"""Time the translation of a volume on a device, and the share of it that the networks do not take.

``python tests/benchmarks/translation_device.py [--device cuda] [--slices 200]``: an egg-shaped head of 256 x 256
pixels, through a shipped model and through a full-size untrained ResNet-9. "warm call": ``translate`` in a process that
has translated before, the median of several calls. "networks": the generator alone on as many slices, in batches of 16
that are on the device already. The host's share is what the networks do not take. "command": the whole command
``medcyclegan translate-volume``, from the start of Python to the written file.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from support import phantoms
from translation import full_size_model

from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.model import ModelBundle
from medcyclegan.model.shipped import shipped_models
from medcyclegan.volume import Volume

BATCH = 16


def networks_alone(model: ModelBundle, direction: str, slices: int, device: str, dtype: torch.dtype) -> float:
    """Return the seconds of the generator on ``slices`` slices that are on the device already."""
    network = model.build(direction).eval().to(device)
    images = torch.rand(BATCH, 1, 256, 256, device=device) * 2 - 1
    seconds = []
    with torch.inference_mode(), torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        for _ in range(4):
            wait(device)
            started = time.perf_counter()
            for _ in range(-(-slices // BATCH)):
                network(images)
            wait(device)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:]) * slices / (-(-slices // BATCH) * BATCH)


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def time_case(name: str, case: tuple, folder: Path, device: str, calls: int) -> None:
    """Print the times of one model, as it comes and with --fast."""
    model, target, volume, known = case
    direction, slices = model.direction(target), volume.shape[2]
    source = phantoms.write_nifti(volume, folder / f"{target}.nii")
    where = known or str(model.save(folder / "model"))
    for fast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        seconds = []
        for _ in range(calls + 1):
            started = time.perf_counter()
            translate(volume, direction, InferenceOptions(device=device, fast=fast))
            seconds.append(time.perf_counter() - started)
        warm = statistics.median(seconds[1:])
        networks = networks_alone(model, direction.generator, slices, device, dtype)
        command = ["translate-volume", str(source), str(folder / f"out-{target}-{fast}.nii"), "--model", where]
        command += ["--to", target, "--device", device, "-q", *(["--fast"] if fast else [])]
        code = "from medcyclegan.cli.main import main; main()"
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.DEVNULL)
        whole = time.perf_counter() - started
        print(
            f"{name}{', --fast' if fast else ''}, {slices} slices on {device}: warm call {warm:.3f} s "
            f"({min(seconds[1:]):.3f} to {max(seconds[1:]):.3f}), networks {networks:.3f} s, host's share "
            f"{1 - networks / warm:.0%}; command {whole:.2f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--calls", type=int, default=5)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.device == "cuda":
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    end = 2 + arguments.slices // 8
    egg = phantoms.head_ct((256, 256, arguments.slices + 2 * end), phantoms.make_affine("LPS", (1.0, 1.0, 1.0)))
    ct = Volume(np.ascontiguousarray(egg.array[:, :, end:-end]), egg.affine, modality="CT")
    mr = Volume((ct.array.clip(-200, 300) + 200).astype(np.int16), ct.affine, modality="MR")
    shipped = next(model for model in shipped_models() if model.name == "head-t1-t2")
    cases = {
        "head-t1-t2": (ModelBundle.load(shipped.folder), "t2", mr, "head-t1-t2"),
        "ResNet-9, 64 filters": (full_size_model(), "ct2", ct, None),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases.items():
            time_case(name, case, Path(folder), arguments.device, arguments.calls)


if __name__ == "__main__":
    main()
