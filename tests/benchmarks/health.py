"""Print the measurements of the health checks for generators that fail in known ways, and for trained runs.

    python tests/benchmarks/health.py [RUN ...]

Prints a line for each direction of each pair of generators, with the warning that it would have after three checks.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import failing_networks

from medcyclegan.model import ModelBundle
from medcyclegan.networks import build_cyclegan
from medcyclegan.training.monitor.health import find_faults, measure_signs, read_reference
from medcyclegan.training.plan import Plan, build_plan
from medcyclegan.training.run.folder import find_run
from medcyclegan.training.run.state import RunState
from medcyclegan.training.update.step import build_step

COLUMNS = ("change", "contrast", "edges", "shift", "outside", "cycle", "cycle_8bit", "unrestored", "texture")


def show(name: str, plan: Plan, pair: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    step = build_step(plan.config, build_cyclegan(plan.config.networks, plan.size, 0), torch.device("cpu"), "fp32")
    step.networks.G_AB, step.networks.G_BA = pair
    if step.averages is not None:
        step.averages.networks.G_AB, step.averages.networks.G_BA = pair
    references = {"AB": read_reference(plan, 0), "BA": read_reference(plan, 1)}
    signs = measure_signs(step, references)
    faults = find_faults(signs, references, plan.domains)
    for direction, values in signs.items():
        said = [fault.removesuffix(f" {direction}") for fault in faults if fault.endswith(direction)]
        figures = "".join(f"{values[column]:>11.3f}" for column in COLUMNS)
        print(f"{name:<26}{direction:<4}{figures}  {', '.join(said) or '-'}", flush=True)


def main(runs: list[str]) -> None:
    torch.set_num_threads(1)
    print(f"{'generators':<26}{'':<4}{''.join(f'{column:>11}' for column in COLUMNS)}  said")
    with tempfile.TemporaryDirectory() as folder:
        store = failing_networks.make_heads(Path(folder))
        plan = build_plan(store, failing_networks.config(100))
        for name, pair in failing_networks.failing_pairs(store).items():
            show(f"made: {name}", plan, pair)
    for path in runs:
        run = find_run(Path(path))
        state = RunState.load(run)
        plan = build_plan(state.store, run.load_config(), state.domains)
        bundle = ModelBundle.load(run.model)
        show(f"run: {run.path.name}", plan, (bundle.build("G_AB"), bundle.build("G_BA")))


if __name__ == "__main__":
    main(sys.argv[1:])
