"""Add the dose of recalculated plans to the scores of a translation and its baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medcyclegan.dose import Structures, recalculate_dose
from medcyclegan.errors import GeometryError, IntensityError, ModalityError
from medcyclegan.evaluation.alignment import Aligned
from medcyclegan.evaluation.evaluate import Evaluation
from medcyclegan.intensity import check_hu
from medcyclegan.metrics import InputToHu, head_mask
from medcyclegan.registration import same_grid
from medcyclegan.volume import Volume

__all__ = ["check_dose_pair", "with_dose"]


def check_dose_pair(fake: Volume, reference: Volume) -> None:
    """Refuse volumes that are not two CTs in HU on one grid, or have non-finite voxels."""
    for name, volume in (("reference", reference), ("fake", fake)):
        if volume.modality not in ("CT", None) or volume.value_range is not None:
            raise ModalityError(f"{name}: dose is calculated on CT numbers, and this is not a CT: leave out --dose")
        bad = int(np.count_nonzero(~np.isfinite(volume.array)))
        if bad:
            raise IntensityError(
                f"{name}: {bad} voxels are not finite, so no dose can be calculated: fill them with --nan fill"
            )
        try:
            check_hu(volume.array)
        except IntensityError as error:
            raise IntensityError.from_error(f"{name}: ", error) from None
    if not same_grid(fake, reference):
        raise GeometryError(
            "fake and reference are on different grids, and a plan needs one grid: translate the volume again, or "
            "resample the fake to the grid of the reference"
        )


def with_dose(
    evaluation: Evaluation,
    aligned: Aligned,
    to_hu: InputToHu | None,
    target: Volume | None,
    organs: Mapping[str, Volume],
) -> Evaluation:
    """Return the scores with those of the dose on the fake and on its baselines, all but the constant one.

    ``target``, ``organs``: masks on the grid of the reference; None: the default target. Raises a
    :class:`~medcyclegan.errors.MedCycleGANError` for masks that cannot be used.
    """
    reference = aligned.reference.replace(modality="CT")
    head = head_mask(reference)
    structures = Structures.from_volumes(reference, head, target, organs)
    found = recalculate_dose(reference, _images(evaluation, aligned, to_hu), head, structures)
    baselines = {
        name: dataclasses.replace(each, dose=found.scores.get(name)) for name, each in evaluation.baselines.items()
    }
    plan = {**found.plan, "dose_on_reference": dict(found.reference)}
    return dataclasses.replace(evaluation, dose=found.scores["fake"], dose_plan=plan, baselines=baselines)


def _images(evaluation: Evaluation, aligned: Aligned, to_hu: InputToHu | None) -> dict[str, NDArray[Any]]:
    """Return the CT numbers of the fake and of each baseline; the air outside the head does not count."""
    images: dict[str, NDArray[Any]] = {"fake": aligned.fake}
    if "input" in evaluation.baselines and aligned.baseline is not None:
        images["input"] = aligned.baseline
    if "tissue_means" in evaluation.baselines and aligned.baseline is not None and to_hu is not None:
        images["tissue_means"] = to_hu(aligned.baseline)
    if "water" in evaluation.baselines:
        images["water"] = np.zeros(aligned.reference.shape, np.float32)
    return images
