"""MONAI dictionary transforms from a volume to axial slices; all but the last are invertible.

``slice-volumes`` runs them in a ``monai.transforms.Compose``, as you can::

    Compose([
        LoadImaged("image", reader=VolumeReader()), EnsureChannelFirstd("image", channel_dim="no_channel"),
        ScaleToMinusOneOned("image", modality="MR"),           # (1, I, J, K), values in [-1, 1]
        AxialOrientationd("image"),                   # (1, rows to posterior, columns to left, slices to superior)
        PlaneFitd("image", size=256, pixel_mm=1.0),   # (1, 256, 256, K)
        AxialSlicesd("image"),                        # (kept slices, 256, 256), and image_slices: their indices
    ])

All but the last record their parameters in the MetaTensor, so ``Compose.inverse`` (or ``Invertd``) maps a plane
``(1, 256, 256, K)`` back to the grid and the values of the volume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientationd
from monai.utils import TraceKeys

from medcyclegan.errors import GeometryError, IntensityError
from medcyclegan.intensity import CT_WINDOW_HU, SCALED_PADDING, IntensityScaling, foreground_threshold
from medcyclegan.plane import AXIAL, PlaneFit, Preparation, canvas_fit, cut_fit, from_plane, to_plane

__all__ = ["AxialOrientationd", "AxialSlicesd", "PlaneFitd", "ScaleToMinusOneOned"]


class AxialOrientationd(Orientationd):
    """Reorient ``(1, I, J, K)`` to rows to posterior, columns to left, slices to superior; no resampling.

    An oblique volume keeps its own plane that is closest to axial. This is MONAI's ``Orientation`` with explicit
    labels, so that no global setting can reverse them.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        labels = (("L", "R"), ("P", "A"), ("I", "S"))
        super().__init__(keys, axcodes=AXIAL, labels=labels, allow_missing_keys=allow_missing_keys)


class ScaleToMinusOneOned(MapTransform, InvertibleTransform):
    """Scale values ``(1, I, J, K)`` to [-1, 1] by the rule of the modality, per volume.

    Also sets ``<key>_scaling`` (:class:`IntensityScaling`) and ``<key>_foreground`` (the scaled value above which a
    voxel shows the patient). The inverse uses the scaling ``target`` if given (that of the other domain, after a
    translation), else the scaling that was fitted.

    Raises :class:`~medcyclegan.errors.IntensityError` for values that are not finite, a CT that is not in HU, and an
    image without contrast.
    """

    def __init__(
        self,
        keys: KeysCollection,
        modality: str | None = None,
        *,
        value_range: tuple[float, float] | None = None,
        window_hu: tuple[float, float] = CT_WINDOW_HU,
        percentiles: tuple[float, float] = (0.5, 99.5),
        target: IntensityScaling | None = None,
    ) -> None:
        super().__init__(keys)
        self.modality = modality
        self.options: dict[str, Any] = {
            "value_range": value_range,
            "window_hu": window_hu,
            "percentiles": percentiles,
        }
        self.target = target

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the values; return float32."""
        items = dict(data)
        for key in self.key_iterator(items):
            image = _as_meta(items[key])
            values = image.as_tensor().numpy()[0]
            if not np.isfinite(values).all():
                raise IntensityError(f"{key}: contains NaN or infinite voxels: read it with nan='fill'")
            scaling = IntensityScaling.fit(values, modality=self.modality, **self.options)
            scaled = MetaTensor(torch.from_numpy(scaling.normalize(values))[None]).copy_meta_from(image)
            items[key] = self.push_transform(scaled, extra_info=scaling.to_dict())
            items[f"{key}_scaling"] = scaling
            threshold = np.array([foreground_threshold(values, self.modality)])
            items[f"{key}_foreground"] = float(scaling.normalize(threshold)[0])
        return items

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map [-1, 1] back to values; return float32."""
        items = dict(data)
        for key in self.key_iterator(items):
            image = items[key]
            fitted = IntensityScaling.from_dict(self.pop_transform(image)[TraceKeys.EXTRA_INFO])
            values = (self.target or fitted).denormalize(image.as_tensor().cpu().numpy())
            items[key] = MetaTensor(torch.from_numpy(values)).copy_meta_from(image)
        return items


class PlaneFitd(MapTransform, InvertibleTransform):
    """Resample axial slices ``(1, H, W, K)`` in [-1, 1] to one size and update the affine.

    ``fit="physical"``: resample to ``pixel_mm``, then pad with -1 to ``size``; ``"stretch"``: resize. A field of view
    larger than ``size`` is cropped around the foreground with ``cut`` (as for training); otherwise the canvas grows to
    a multiple of ``multiple`` pixels and nothing is lost. ``placement``: that of another volume on the same grid, so
    that the slices of both are cropped alike. The inverse returns to the pixels of the volume. Sets
    ``<key>_fit``, a :class:`PlaneFit`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int = 256,
        fit: Literal["physical", "stretch"] = "physical",
        pixel_mm: float = 1.0,
        *,
        cut: bool = True,
        multiple: int = 4,
        placement: PlaneFit | None = None,
    ) -> None:
        super().__init__(keys)
        self.placement = placement
        self.preparation = Preparation(size, fit, pixel_mm)
        self.cut = cut
        self.multiple = multiple

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample, then pad or crop."""
        items = dict(data)
        for key in self.key_iterator(items):
            image = _as_meta(items[key])
            fit = self.placement or self._plan(image, items.get(f"{key}_foreground", SCALED_PADDING))
            if fit.shape != tuple(image.shape[1:3]):
                raise GeometryError(f"{key}: a placement of slices of {fit.shape} pixels for {tuple(image.shape[1:3])}")
            slices = to_plane(image.as_tensor().permute(3, 0, 1, 2), fit)
            plane = MetaTensor(slices.permute(1, 2, 3, 0)).copy_meta_from(image)
            info = {"fit": dataclasses.astuple(fit), "affine": image.affine.clone()}
            items[key] = self.push_transform(
                plane, affine=fit.matrix(), orig_size=tuple(image.shape[1:]), extra_info=info
            )
            items[f"{key}_fit"] = fit
        return items

    def _plan(self, image: MetaTensor, foreground: float) -> PlaneFit:
        height, width = int(image.shape[1]), int(image.shape[2])
        spacing = np.linalg.norm(image.affine.numpy()[:3, :3], axis=0)
        arguments = ((height, width), (float(spacing[0]), float(spacing[1])), self.preparation)
        if not self.cut:
            return canvas_fit(*arguments, self.multiple)
        mask = (image.as_tensor()[0] > max(foreground, SCALED_PADDING)).any(dim=2)
        centre = None
        if mask.any():
            rows, columns = torch.nonzero(mask.any(1)).flatten(), torch.nonzero(mask.any(0)).flatten()
            centre = (float(rows[0] + rows[-1]) / 2, float(columns[0] + columns[-1]) / 2)
        return cut_fit(*arguments, centre)

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map planes ``(1, size, size, K)`` back to ``(1, H, W, K)`` and restore the affine of the volume."""
        items = dict(data)
        for key in self.key_iterator(items):
            plane = items[key]
            info = self.pop_transform(plane)[TraceKeys.EXTRA_INFO]
            fit = PlaneFit(*(tuple(pair) for pair in info["fit"]))
            slices = from_plane(plane.as_tensor().permute(3, 0, 1, 2), fit)
            image = MetaTensor(slices.permute(1, 2, 3, 0)).copy_meta_from(plane)
            image.affine = info["affine"]
            items[key] = image
        return items


class AxialSlicesd(MapTransform):
    """Select the slices of ``(1, H, W, K)`` that show the patient; return them as ``(kept, H, W)``.

    A slice is kept if at least the fraction ``foreground`` (0 to 1) of it exceeds the foreground value of the volume.
    Sets ``<key>_slices``, the kept indices. Not invertible, because slices are removed.
    """

    def __init__(self, keys: KeysCollection, foreground: float = 0.02) -> None:
        super().__init__(keys)
        self.foreground = foreground

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Select the slices."""
        items = dict(data)
        for key in self.key_iterator(items):
            planes = _as_meta(items[key]).as_tensor()[0]
            threshold = max(items.get(f"{key}_foreground", SCALED_PADDING), SCALED_PADDING)
            share = (planes > threshold).float().mean(dim=(0, 1))
            kept = torch.nonzero(share >= self.foreground).flatten()
            items[f"{key}_slices"] = tuple(int(k) for k in kept)
            items[key] = planes.permute(2, 0, 1)[kept].contiguous()
        return items


def _as_meta(image: Any) -> MetaTensor:
    """Return ``image`` as a MetaTensor ``(1, I, J, K)``; refuse anything else."""
    if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1:
        raise GeometryError(
            f"an image of type {type(image).__name__} and shape {tuple(np.shape(image))}: these transforms need a "
            "MetaTensor (1, I, J, K): use LoadImaged, then EnsureChannelFirstd(channel_dim='no_channel')"
        )
    return image
