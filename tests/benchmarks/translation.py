"""Time the translation of a CT against a plain loop, and measure its memory.

``python tests/benchmarks/translation.py``. The generator is the full-size ResNet-9 with 64 filters, untrained; the CT
is an egg of 256 x 256 pixels of 1 mm, 24 slices by default (``--slices 150`` for a whole head). "reference" is a
straightforward version: eager fp32, slice by slice. All variants run in turn in one process, so that a busy machine
slows them alike; medians after a round to warm up. On a machine that others use, ``--clock cpu --threads 1`` counts the
process's own seconds. Error: of the HU that come out before they are rounded, against the reference's. Peak memory is
that of the command in a separate process, minus that of one that only imports it. The exit code is 1 if a floor is
missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray
from reference_step import resnet_generator
from support import phantoms
from support.models import CT_DOMAIN

from medcyclegan.config import Generator
from medcyclegan.inference import InferenceOptions, translate
from medcyclegan.inference.runtime.onnx import to_onnx
from medcyclegan.intensity import IntensityScaling
from medcyclegan.model import DomainModel, ModelBundle
from medcyclegan.networks import build_generator
from medcyclegan.plane import Preparation
from medcyclegan.volume import Volume

#: Floors of DESIGN section 6: times the reference's speed, error in HU, memory in float32 volumes besides the model.
FLOORS = {"fp32": 1.3, "fast": 2.5}
MOST_HU, MOST_VOLUMES = 0.5, 3.0
WAYS = {
    "fp32": InferenceOptions(device="cpu"),
    "fast": InferenceOptions(device="cpu", fast=True),
    "ONNX Runtime": InferenceOptions("cpu", backend="onnx"),
}
#: As a CT's window, but kept in float32.
_UNROUNDED = IntensityScaling("range", -1024.0, 3071.0, "HU, not rounded")
#: The volume on which memory is measured: large compared with the networks' own maps; pixels of 0.5 mm,
#: brought to 256 x 256.
_MEMORY_SHAPE = (512, 512, 300)
_MEMORY = """
import re, sys
import medcyclegan.inference, monai, nibabel, scipy.stats
from medcyclegan.cli.main import main
def peak():
    from pathlib import Path
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
main(sys.argv[1:], standalone_mode=False)
print("peak", peak() - before)
"""


def full_size_model() -> ModelBundle:
    """Return a CT-to-CT model of two untrained full-size generators."""
    generator = Generator(kind="resnet", filters=64, blocks=9)
    weights = {}
    for seed, name in enumerate(("G_AB", "G_BA")):
        torch.manual_seed(seed)
        network = build_generator(generator, 256)
        for key, parameter in network.named_parameters():
            torch.nn.init.zeros_(parameter) if key.endswith("bias") else torch.nn.init.normal_(parameter, 0.0, 0.02)
        weights[name] = network.state_dict()
    return ModelBundle(
        (CT_DOMAIN, DomainModel("ct2", None, _UNROUNDED)), Preparation(256, "physical", 1.0), generator, weights
    )


def reference_loop(volume: Volume, model: ModelBundle) -> Callable[[], NDArray[np.float32]]:
    """Return the plain loop: scale, network, unscale, one axial slice after the other."""
    network = resnet_generator().eval()
    state = build_generator(model.generator, 256)
    state.load_state_dict(model.weights["G_AB"])
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    pairs = zip(*([m for m in each.modules() if isinstance(m, kinds)] for each in (network, state)), strict=True)
    for mine, theirs in pairs:
        mine.weight.data.copy_(theirs.weight)
        torch.nn.init.zeros_(mine.bias)

    def translate_slices() -> NDArray[np.float32]:
        out = np.empty(volume.shape, np.float32)
        with torch.no_grad():
            for k in range(volume.shape[2]):
                # Rows to posterior, columns to patient left: an LPS array's transpose.
                plane = np.clip(volume.array[:, :, k].T.astype(np.float32), -1024, 3071)
                image = torch.from_numpy((plane + 1024) / 4095 * 2 - 1)[None, None]
                fake = network(image)[0, 0].numpy()
                out[:, :, k] = (fake.T + 1) / 2 * 4095 - 1024
        return out

    return translate_slices


def print_speed(slices: int, rounds: int, clock: Callable[[], float]) -> int:
    """Print seconds per slice, ratios and errors; return how many floors are missed."""
    affine = phantoms.make_affine("LPS", (1.0, 1.0, 1.0))
    # The ends of the egg are air, which is not given to the network: they are cut off, so that none is skipped.
    end = 2 + slices // 8
    egg, model = phantoms.head_ct((256, 256, slices + 2 * end), affine), full_size_model()
    volume = Volume(np.ascontiguousarray(egg.array[:, :, end:-end]), affine, modality="CT")
    assert volume.array.max(axis=(0, 1)).min() > 0
    graph = to_onnx(model.build("G_AB"), model.canvas_multiple())
    exported = dataclasses.replace(model, graphs={"G_AB": graph}, exported_from=model.fingerprint)
    reference = reference_loop(volume, model)
    found: dict[str, NDArray[np.float32]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ("reference", *WAYS)}
    said: dict[str, str] = {}
    for round_ in range(rounds + 1):
        for name in seconds:
            started = clock()
            if name == "reference":
                found[name] = reference()
            else:
                used = exported if name == "ONNX Runtime" else model
                done = translate(volume, used.direction("ct2"), WAYS[name])
                found[name] = done.volume.array
                said[name] = "" if done.fast is None else f"; said itself: {done.fast}"
            if round_:
                seconds[name].append((clock() - started) / slices)
    baseline, missed = statistics.median(seconds["reference"]), 0
    for name, times in seconds.items():
        median = statistics.median(times)
        error = np.abs(found[name] - found["reference"])
        ratio = baseline / median
        bad = ratio < FLOORS.get(name, 0) or (name != "fast" and error.max() > MOST_HU)
        missed += bad
        floor = "   <-- floor" if bad else ""
        print(
            f"  {name:14s}{median:7.3f} s a slice {ratio:6.2f} x   ({min(times):.3f} to {max(times):.3f} s)   error "
            f"{error.mean():.3g} HU on average, at most {error.max():.3g}{said.get(name, '')}{floor}"
        )
    return missed


def print_memory(slices: int) -> int:
    """Print the peak memory of the command; return 1 where it is above the floor."""
    shape = (*_MEMORY_SHAPE[:2], slices)
    with tempfile.TemporaryDirectory() as folder:
        model = full_size_model().save(Path(folder) / "model")
        size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
        place = phantoms.make_affine("LPS", (0.5, 0.5, 2.0))
        source = phantoms.write_nifti(phantoms.head_ct(shape, place), Path(folder) / "in.nii")
        command = ["translate-volume", str(source), f"{folder}/out.nii", "--model", str(model), "--to", "ct2", "-q"]
        child = [sys.executable, "-c", _MEMORY, *command, "--device", "cpu"]
        text = subprocess.run(child, check=True, capture_output=True, text=True).stdout
    peak, volume = int(re.search(r"peak (\d+)", text)[1]), 4 * int(np.prod(shape))
    volumes = (peak - size) / volume
    print(
        f"  peak memory, {' x '.join(map(str, shape))}: {peak / 2**20:.0f} MiB = the model's {size / 2**20:.0f} MiB + "
        f"{volumes:.2f} x the float32 volume of {volume / 2**20:.0f} MiB" + ("   <-- floor" * (volumes > MOST_VOLUMES))
    )
    return int(volumes > MOST_VOLUMES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=24, help="slices of the timed volume")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds, after one to warm up")
    parser.add_argument("--threads", type=int, help="threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds are counted")
    parser.add_argument("--memory-slices", type=int, default=_MEMORY_SHAPE[2], help="0: leave the memory out")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(
        f"translation, CPU, {torch.get_num_threads()} threads, {arguments.slices} slices of 256 x 256, ResNet-9, "
        f"{arguments.clock} time"
    )
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    missed = print_speed(arguments.slices, arguments.rounds, clock)
    if arguments.memory_slices:
        missed += print_memory(arguments.memory_slices)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
