"""One synthetic patient: all that is drawn, as a value, and its images from a label map."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from medcyclegan.errors import UsageError
from medcyclegan.synthesis.acquisition import Acquisition, blurred, draw_acquisition, scan_ct, scan_mr
from medcyclegan.synthesis.anatomy import Anatomy, draw_anatomy, map_axes_mm, paint_anatomy
from medcyclegan.synthesis.contrasts import Physics, Protocol, draw_physics, draw_protocol, tissue_values
from medcyclegan.synthesis.deform import Deformation, Grid, draw_deformation, sample_labels, sample_maps
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.lesions import Lesion, draw_lesions, paint_lesion
from medcyclegan.synthesis.metal import Filling, add_streaks, draw_fillings, lose_signal
from medcyclegan.synthesis.sequences import CONTRASTS
from medcyclegan.synthesis.tissues import BRAIN, LESIONS, tissue_index, tissue_indices
from medcyclegan.synthesis.views import Variation, draw_grid

__all__ = ["Images", "Patient", "draw_patient", "render_patient"]

_AIR_HU = -1000.0
#: What brain extraction keeps besides the brain: fluid and vessels inside it, and lesions.
_INSIDE = (*BRAIN, *LESIONS, "choroid plexus")


@dataclasses.dataclass(frozen=True)
class Patient:
    """All that decides one patient's images besides the label map; plain numbers, so that it can be written down.

    ``extraction``: of a brain-extracted patient, the share of brain nearby above which a voxel is kept; else None.
    ``protocols`` and ``acquisitions`` belong together, one for each contrast.
    """

    seed: int
    deformation: Deformation
    grid: Grid
    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    physics: Physics
    protocols: tuple[Protocol, ...]
    acquisitions: tuple[Acquisition, ...]
    fillings: tuple[Filling, ...]
    extraction: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """What :func:`render_patient` makes; all on one grid, ``(I, J, K)`` in RAS+ order.

    ``scans``: contrast to image, float32: MR in arbitrary units, CT in HU. ``clean``: the same before bias, gamma and
    noise, where it was asked for; MR in the scan's units. ``truth``: indices into
    :data:`~medcyclegan.synthesis.TISSUES`, uint8, where it was asked for.
    """

    scans: dict[str, torch.Tensor]
    clean: dict[str, torch.Tensor]
    truth: torch.Tensor | None


def draw_patient(
    seed: int, head: LabelledHead, contrasts: Sequence[str], variation: Variation | None = None
) -> Patient:
    """Draw the patient of ``seed`` with the anatomy of ``head``, which is on the CPU.

    A contrast looks the same whichever others are drawn. Raises :class:`~medcyclegan.errors.UsageError` for an unknown
    contrast or a negative seed.
    """
    unknown = [name for name in contrasts if name not in CONTRASTS]
    if unknown or not contrasts:
        raise UsageError(f"contrast {', '.join(unknown) or 'none'}: known are {', '.join(CONTRASTS)}")
    if seed < 0:
        raise UsageError(f"seed {seed}: a patient's seed is 0 or a positive whole number")
    variation = variation or Variation()
    deformation = draw_deformation(Draws(seed, "deformation"), seed)
    physics = draw_physics(Draws(seed, "physics"))
    choices = Draws(seed, "choices")
    with_lesions, extracted, metal = (choices.uniform(0, 1) for _ in range(3))
    extraction = choices.uniform(0.3, 0.75) if extracted < variation.extracted else None
    return Patient(
        seed=seed,
        deformation=deformation,
        grid=draw_grid(Draws(seed, "grid"), head, deformation, variation),
        anatomy=draw_anatomy(Draws(seed, "anatomy"), seed),
        lesions=draw_lesions(Draws(seed, "lesions"), head) if with_lesions < variation.lesions else (),
        physics=physics,
        protocols=tuple(draw_protocol(Draws(seed, "protocol", name), name, physics) for name in contrasts),
        acquisitions=tuple(
            draw_acquisition(draws, name, draws.integer(0, 2**31 - 1))
            for name, draws in ((name, Draws(seed, "acquisition", name)) for name in contrasts)
        ),
        fillings=draw_fillings(Draws(seed, "metal"), head, deformation) if metal < variation.metal else (),
        extraction=extraction,
    )


def render_patient(patient: Patient, head: LabelledHead, *, clean: bool = False, truth: bool = True) -> Images:
    """Return the images of ``patient``, computed where ``head`` is; ``head`` must be the one it was drawn for.

    Anatomy and parameters are the same on every device; the noise is drawn by the device.
    """
    tissues = paint_anatomy(head, patient.anatomy)
    tables = [tissue_values(protocol, patient.physics) for protocol in patient.protocols]
    maps = _value_maps(patient, head, tissues, tables)
    for lesion in patient.lesions:  # in place: tissues become those of the lesions, for the truth and the extraction
        box, share = paint_lesion(head, lesion, tissues)
        number = tissue_index(lesion.tissue)
        for channel, (values, _) in enumerate(tables):
            part = maps[channel, box[0], box[1], box[2]]
            part += share * (float(values[number]) - part)
        tissues[box].masked_fill_(share > 0.5, number)
    if patient.extraction is not None:
        maps = torch.cat([maps, _near_brain(head, tissues)[None]])
    sampled = sample_maps(maps, head, patient.deformation, patient.grid)
    kept = None if patient.extraction is None else sampled[-1] > patient.extraction
    scans, before = {}, {}
    for channel, protocol in enumerate(patient.protocols):
        white = float(tables[channel][0][tissue_index("white matter")])
        image, scan = _scan(patient, sampled[channel], channel, white, kept)
        before[protocol.name], scans[protocol.name] = image, scan
    labels = sample_labels(tissues, head, patient.deformation, patient.grid) if truth else None
    return Images(scans, before if clean else {}, labels)


def _value_maps(
    patient: Patient, head: LabelledHead, tissues: torch.Tensor, tables: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Return the values ``(C, X, Y, Z)`` of each contrast on the label map's grid, CT as HU above air."""
    axes = map_axes_mm(head)
    fine = SmoothField(Draws(patient.seed, "texture", "fine"), (1.8, 1.8, 1.8), half_box_mm=145.0).on_grid(axes)[0]
    coarse = SmoothField(Draws(patient.seed, "texture", "coarse"), (11.0, 11.0, 11.0)).on_grid(axes)[0]
    texture = (0.7 * fine + 0.7 * coarse).flatten()
    places = tissues.flatten().int()
    maps = torch.empty((len(patient.protocols), *tissues.shape), device=tissues.device)
    for channel, table in enumerate(tables):
        values, slopes = (column.to(tissues.device) for column in table)
        flat = values.index_select(0, places)
        flat.addcmul_(slopes.index_select(0, places), texture)
        maps[channel] = flat.view(tissues.shape)
    return maps


def _near_brain(head: LabelledHead, tissues: torch.Tensor) -> torch.Tensor:
    """Return the share of brain around each voxel, 0 to 1, within some 3 mm."""
    numbers = torch.tensor(tissue_indices(*_INSIDE), dtype=torch.uint8, device=tissues.device)
    x, y, z = (3.0 / mm for mm in head.spacing_mm)
    return blurred(torch.isin(tissues, numbers).float(), (x, y, z))


def _scan(
    patient: Patient, image: torch.Tensor, channel: int, white: float, kept: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image before and after what the scanner does to it, both in the scan's units.

    ``white``: the value of white matter in this contrast.
    """
    acquisition = patient.acquisitions[channel]
    x, y, z = (acquisition.blur_mm / mm for mm in patient.grid.spacing_mm)
    image = blurred(image, (x, y, z))
    if patient.protocols[channel].sequence is None:
        image = image + _AIR_HU
        scan = image
        for filling in patient.fillings:
            scan = add_streaks(scan, patient.grid, filling)
        scan, outside = scan_ct(scan, patient.grid, acquisition), _AIR_HU
    else:
        for filling in patient.fillings:
            image = lose_signal(image, patient.grid, filling)
        scan, outside = scan_mr(image, patient.grid, acquisition, white), 0.0
        image = image * (acquisition.gain / white)
    if kept is not None:
        scan, image = (torch.where(kept, values, outside) for values in (scan, image))
    return image, scan
