"""The reference patients of a pretraining: a few that represent all others, and a few for validation."""

from __future__ import annotations

import csv
import dataclasses
import logging
import tempfile
from pathlib import Path

import torch

from medcyclegan.config import Config
from medcyclegan.errors import TrainingError
from medcyclegan.io import FoundVolume, ReadOptions, find_volumes
from medcyclegan.slicing import slice_volumes
from medcyclegan.synthesis import synthesize
from medcyclegan.synthesis.draws import Draws
from medcyclegan.training.pretraining.synthetic_pairs import SyntheticPairs

__all__ = ["draw_reference", "split_maps"]

log = logging.getLogger(__name__)

#: From this number of label maps on, one is used only for validation.
_FEWEST_TO_SPLIT = 4


def split_maps(maps: tuple[Path, ...], config: Config) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the label maps for training and for validation: of four or more, one is held out; fewer serve both."""
    if config.pretraining.validation_patients == 0:
        return maps, ()
    if len(maps) < _FEWEST_TO_SPLIT:
        return maps, maps
    chosen = maps[Draws(config.seed, "validation map").integer(0, len(maps) - 1)]
    return tuple(path for path in maps if path != chosen), (chosen,)


def draw_reference(store: Path, pairs: SyntheticPairs, device: torch.device) -> None:
    """Generate the reference patients and cut them into the slice store ``store``; the volumes are not kept."""
    config, domains = pairs.config, pairs.domains
    section = config.pretraining
    log.info(
        "generating %d reference patients and %d validation patients before the first step",
        *(section.reference_patients, section.validation_patients),
    )
    parts = [
        ("train", pairs.maps, section.reference_patients),
        ("validation", pairs.held_out_maps, section.validation_patients),
    ]
    found: dict[str, list[FoundVolume]] = {domain: [] for domain in domains}
    rows = [("case", "patient", "split")]
    with tempfile.TemporaryDirectory(prefix="medcyclegan-reference-") as name:
        root = Path(name)
        for split, maps, _ in (part for part in parts if part[2] > 0):
            synthesize(maps, root / split, pairs.reference_cohort(split), table=pairs.table, device=device)
            for domain in domains:
                for volume in find_volumes(root / split / domain, ReadOptions()):
                    case = f"{split}/{volume.name}"
                    found[domain].append(dataclasses.replace(volume, name=case))
                    rows.append((case, f"{split}-{volume.name.split('_')[0]}", split))
        with (root / "splits.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        result = slice_volumes(found, store, config=config, split_file=root / "splits.csv")
    if result.refused:
        raise TrainingError(
            f"{len(result.refused)} volumes of reference patients were refused: {result.refused[0].reason}"
        )
