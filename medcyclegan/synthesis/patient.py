"""One synthetic patient: its random parameters, and its images, rendered from a label map."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from medcyclegan.errors import UsageError
from medcyclegan.synthesis.acquisition import (
    Acquisition,
    blurred,
    draw_acquisition,
    keep_above_noise,
    scan_ct,
    scan_mr,
)
from medcyclegan.synthesis.anatomy import Anatomy, draw_anatomy, map_axes_mm, paint_anatomy
from medcyclegan.synthesis.contrasts import (
    Physics,
    Protocol,
    draw_physics,
    draw_protocol,
    standard_protocol,
    tissue_values,
)
from medcyclegan.synthesis.deform import Deformation, Grid, draw_deformation, sample_labels, sample_maps
from medcyclegan.synthesis.draws import Draws
from medcyclegan.synthesis.fields import SmoothField
from medcyclegan.synthesis.head import LabelledHead
from medcyclegan.synthesis.lesions import Lesion, draw_lesions, paint_lesion
from medcyclegan.synthesis.metal import Filling, add_streaks, draw_fillings, lose_signal
from medcyclegan.synthesis.sequences import CONTRASTS
from medcyclegan.synthesis.tissues import BRAIN, LESIONS, TISSUES, tissue_index, tissue_indices
from medcyclegan.synthesis.views import Variation, brain_box, draw_grid, seen_box

__all__ = ["Extraction", "Images", "Patient", "draw_patient", "lesion_mask", "render_patient", "standard_patient"]

_AIR_HU = -1000.0
#: The fraction of MR images that are corrected for the coils' sensitivity: of whole heads, and of extracted brains,
#: because pipelines that extract brains usually correct it.
_CORRECTED = (0.2, 0.6)
#: The fraction of T1 images of extracted brains from which preprocessing subtracted an offset, and the range of this
#: offset, relative to the signal of grey matter. It is at least the signal of fluid, unless that is above the range:
#: fluid becomes as black as what surrounds the brain, as in openms_mni19.
_WITH_OFFSET, _OFFSET = 0.6, (0.2, 0.7)
#: The blur of standard images, near the smallest that is drawn.
_STANDARD_BLUR_MM = 0.4
#: The range of ``Extraction.fluid_mm``. The ventricles are further than this from the bone.
_KEPT_FLUID_MM = (4.0, 12.0)
#: The tissues that count as brain in an extraction, which also keeps the fluid and vessels between them.
_INSIDE = (*BRAIN, *LESIONS, "choroid plexus")


@dataclasses.dataclass(frozen=True)
class Extraction:
    """How a brain was extracted.

    ``share``: the fraction of brain in the neighborhood above which a voxel is kept. ``fluid_mm``: enclosed fluid at
    least this far from the bone (the ventricles, deep fissures and some cisterns) counts as brain, because the masks
    that tools for extraction make have no holes.
    """

    share: float
    fluid_mm: float


@dataclasses.dataclass(frozen=True)
class Patient:
    """All parameters of one patient's images, apart from the label map, as plain numbers that can be stored.

    ``extraction``: None if the head is whole. ``protocols`` and ``acquisitions`` have one entry for each contrast, in
    the same order.
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
    extraction: Extraction | None


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The images that :func:`render_patient` returns, all on one grid, ``(I, J, K)`` in RAS+ order.

    ``scans``: contrast to image, float32; MR in arbitrary units, CT in HU. ``clean``: the same before bias, gamma,
    noise and offset, if requested; MR in the scan's units. ``truth``: indices into
    :data:`~medcyclegan.synthesis.TISSUES`, uint8, if requested.
    """

    scans: dict[str, torch.Tensor]
    clean: dict[str, torch.Tensor]
    truth: torch.Tensor | None


def draw_patient(
    seed: int, head: LabelledHead, contrasts: Sequence[str], variation: Variation | None = None
) -> Patient:
    """Draw the patient of ``seed`` with the anatomy of ``head``, which must be on the CPU.

    A contrast does not depend on which others are drawn. Raises :class:`~medcyclegan.errors.UsageError` for an unknown
    contrast or a negative seed.
    """
    unknown = [name for name in contrasts if name not in CONTRASTS]
    if unknown or not contrasts:
        raise UsageError(f"contrasts {', '.join(unknown) or 'none'}: choose from {', '.join(CONTRASTS)}")
    if seed < 0:
        raise UsageError(f"seed {seed}: a patient's seed must be at least 0")
    variation = variation or Variation()
    deformation = draw_deformation(Draws(seed, "deformation"), seed)
    physics = draw_physics(Draws(seed, "physics"))
    protocols = tuple(draw_protocol(Draws(seed, "protocol", name), name, physics) for name in contrasts)
    choices = Draws(seed, "choices")
    with_lesions, extracted, metal = (choices.uniform(0, 1) for _ in range(3))
    extraction = None
    if extracted < variation.extracted:
        extraction = Extraction(share=choices.uniform(0.3, 0.75), fluid_mm=choices.uniform(*_KEPT_FLUID_MM))
    return Patient(
        seed=seed,
        deformation=deformation,
        grid=draw_grid(Draws(seed, "grid"), head, deformation, variation),
        anatomy=draw_anatomy(Draws(seed, "anatomy"), seed),
        lesions=draw_lesions(Draws(seed, "lesions"), head) if with_lesions < variation.lesions else (),
        physics=physics,
        protocols=protocols,
        acquisitions=tuple(
            _draw_acquisition(seed, protocol, physics, extraction is not None) for protocol in protocols
        ),
        fillings=draw_fillings(Draws(seed, "metal"), head, deformation) if metal < variation.metal else (),
        extraction=extraction,
    )


def standard_patient(patient: Patient) -> Patient:
    """Return the same patient on the same grid, with the standard protocol and sharpness of each contrast."""
    protocols = tuple(standard_protocol(protocol.name) for protocol in patient.protocols)
    acquisitions = tuple(
        acquisition if protocol.sequence is None else dataclasses.replace(acquisition, blur_mm=_STANDARD_BLUR_MM)
        for protocol, acquisition in zip(protocols, patient.acquisitions, strict=True)
    )
    return dataclasses.replace(patient, protocols=protocols, acquisitions=acquisitions)


def _draw_acquisition(seed: int, protocol: Protocol, physics: Physics, extracted: bool) -> Acquisition:
    draws = Draws(seed, "acquisition", protocol.name)
    acquisition = draw_acquisition(draws, protocol.name, draws.integer(0, 2**31 - 1), _CORRECTED[extracted])
    if protocol.name != "t1":
        return acquisition
    values, _ = tissue_values(protocol, physics)
    fluid, grey, white = (
        float(values[n]) for n in tissue_indices("cerebrospinal fluid", "grey matter", "white matter")
    )
    acquisition = keep_above_noise(acquisition, fluid / white)
    # Around an extracted brain there is nothing for which black fluid could be taken.
    if extracted and draws.chance(_WITH_OFFSET):
        darkest, drawn = (fluid / grey) ** acquisition.gamma, draws.uniform(*_OFFSET)
        offset = max(drawn, min(darkest, _OFFSET[1])) * (grey / white) ** acquisition.gamma
        return dataclasses.replace(acquisition, subtracted=offset)
    return acquisition


def render_patient(patient: Patient, head: LabelledHead, *, clean: bool = False, truth: bool = True) -> Images:
    """Render the images of ``patient`` on the device of ``head``, the head for which it was drawn.

    Anatomy and parameters are the same on every device; the noise depends on the device.
    """
    grid = patient.grid
    box = None if patient.extraction is None else brain_box(grid, head, patient.deformation)
    part = grid if box is None else grid.part(box)
    head = head.part(seen_box(grid if truth else part, head, patient.deformation))
    tissues = paint_anatomy(head, patient.anatomy)
    tables = [tissue_values(protocol, patient.physics) for protocol in patient.protocols]
    maps = _value_maps(patient, head, tissues, tables)
    if patient.extraction is not None:
        maps[-1] = _near_brain(head, tissues, patient.extraction.fluid_mm)
    sampled = sample_maps(maps, head, patient.deformation, part)
    kept = None if patient.extraction is None else sampled[-1] > patient.extraction.share
    scans, before = {}, {}
    for channel, protocol in enumerate(patient.protocols):
        white = float(tables[channel][0][tissue_index("white matter")])
        image, scan = _scan(patient, part, sampled[channel], channel, white, kept)
        if box is not None:
            image, scan = (_embedded(values, grid, box, _outside(protocol)) for values in (image, scan))
        before[protocol.name], scans[protocol.name] = image, scan
    labels = sample_labels(tissues, head, patient.deformation, grid) if truth else None
    return Images(scans, before if clean else {}, labels)


def lesion_mask(truth: torch.Tensor) -> torch.Tensor:
    """Return where ``truth``, as in :class:`Images`, is a tissue of lesions: a mask of the same shape."""
    return torch.isin(truth.int(), torch.tensor(tissue_indices(*LESIONS), device=truth.device))


def _value_maps(
    patient: Patient, head: LabelledHead, tissues: torch.Tensor, tables: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """Return the values ``(C, X, Y, Z)`` of each contrast on the label map's grid, CT as HU above air.

    In lesions, ``tissues`` is overwritten with their tissues, for the truth and the extraction. For an extracted brain
    there is one more channel, which the caller fills.
    """
    axes = map_axes_mm(head)
    fine = SmoothField(Draws(patient.seed, "texture", "fine"), (1.8, 1.8, 1.8), half_box_mm=145.0).on_grid(axes)[0]
    coarse = SmoothField(Draws(patient.seed, "texture", "coarse"), (11.0, 11.0, 11.0)).on_grid(axes)[0]
    texture = (0.7 * fine + 0.7 * coarse).flatten()
    places = tissues.flatten().int()
    extra = 0 if patient.extraction is None else 1
    maps = torch.empty((len(patient.protocols) + extra, *tissues.shape), device=tissues.device)
    for channel, table in enumerate(tables):
        values, slopes = (column.to(tissues.device) for column in table)
        flat = maps[channel].view(-1)
        torch.index_select(values, 0, places, out=flat)
        flat.addcmul_(slopes.index_select(0, places), texture).clamp_(min=0.0)
    for lesion in patient.lesions:
        box, share = paint_lesion(head, lesion, tissues)
        number = tissue_index(lesion.tissue)
        for channel, (values, _) in enumerate(tables):
            flat = maps[channel, box[0], box[1], box[2]]
            flat += share * (float(values[number]) - flat)
        tissues[box].masked_fill_(share > 0.5, number)
    return maps


def _near_brain(head: LabelledHead, tissues: torch.Tensor, fluid_mm: float) -> torch.Tensor:
    """Return the fraction of brain and of fluid in it around each voxel, 0 to 1, within about 3 mm."""
    inside = torch.zeros(len(TISSUES), device=tissues.device)
    inside[list(tissue_indices(*_INSIDE))] = 1.0
    counted = inside[tissues.int()]
    counted[head.enclosed & (head.depth_mm >= fluid_mm)] = 1.0
    x, y, z = (3.0 / mm for mm in head.spacing_mm)
    return blurred(counted, (x, y, z))


def _outside(protocol: Protocol) -> float:
    """Return the value around an extracted brain."""
    return _AIR_HU if protocol.sequence is None else 0.0


def _embedded(image: torch.Tensor, grid: Grid, box: tuple[slice, ...], outside: float) -> torch.Tensor:
    whole = torch.full(grid.shape, outside, device=image.device)
    whole[box] = image
    return whole


def _scan(
    patient: Patient, grid: Grid, image: torch.Tensor, channel: int, white: float, kept: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image before and after the scanner's effects, both in the scan's units.

    ``white``: the value of white matter in this contrast.
    """
    acquisition = patient.acquisitions[channel]
    x, y, z = (acquisition.blur_mm / mm for mm in grid.spacing_mm)
    image = blurred(image, (x, y, z))
    protocol = patient.protocols[channel]
    if protocol.sequence is None:
        image = image + _AIR_HU
        scan = image
        for filling in patient.fillings:
            scan = add_streaks(scan, grid, filling)
        scan = scan_ct(scan, grid, acquisition)
    else:
        for filling in patient.fillings:
            image = lose_signal(image, grid, filling)
        scan = scan_mr(image, grid, acquisition, white)
        image = image * (acquisition.gain / white)
    if kept is not None:
        scan, image = (torch.where(kept, values, _outside(protocol)) for values in (scan, image))
    return image, scan
