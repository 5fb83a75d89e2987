"""Rigid registration of two scans of one patient."""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from medcyclegan.errors import GeometryError
from medcyclegan.volume import LPS_RAS, Volume

__all__ = ["Motion", "register_rigid"]

#: Finer volumes are first averaged to about this voxel size, which suffices for a head and takes seconds.
_FINEST_MM = 2.0
_SHEAR_DEGREES = 0.01
_SHRINK_FACTORS = (4, 2, 1)
_SAMPLED = 0.25
_SEED = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Motion:
    """A rigid motion that aligns a moving volume with a fixed one.

    ``matrix``: 4 x 4, maps a point of the moving volume to the corresponding point of the fixed one, both RAS+ mm.
    ``rotation_degrees``, ``shift_mm``: its angle, and the displacement of the moving volume's center.
    ``before``, ``after``: Mattes mutual information in nats; higher is better.
    """

    matrix: NDArray[np.float64]
    rotation_degrees: float
    shift_mm: float
    before: float
    after: float


def register_rigid(moving: Volume, fixed: Volume) -> Motion:
    """Return the rigid motion that aligns ``moving`` with ``fixed``, by mutual information.

    Maximizes Mattes mutual information (IEEE Trans. Med. Imaging 22:120, 2003) by gradient descent over three
    resolutions, on grids of about 2 mm. Starts from the scanner coordinates or, if the match is better, from aligned
    centers of mass. The contrasts may differ. The result is repeatable, because the seed of the samples is fixed.

    Raises :class:`~medcyclegan.errors.GeometryError` for sheared volumes, a single slice, or no overlap.
    """
    fixed_image, moving_image = _to_image(fixed, "reference"), _to_image(moving, "moving volume")
    method = _method()
    start, before = _start(method, fixed_image, moving_image)
    method.SetInitialTransform(start, inPlace=True)
    try:
        method.Execute(fixed_image, moving_image)
        after = -float(method.GetMetricValue())
    except RuntimeError:
        raise GeometryError("rigid registration lost the overlap of the volumes: align them first") from None
    # SimpleITK's transform maps fixed points to moving ones, in LPS+.
    to_moving = _as_matrix(start)
    matrix = LPS_RAS @ np.linalg.inv(to_moving) @ LPS_RAS
    angle = np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1.0, 1.0)))
    centre = moving.affine @ [*(np.array(moving.shape) - 1) / 2, 1.0]
    shift = float(np.linalg.norm((matrix @ centre - centre)[:3]))
    return Motion(matrix, float(angle), shift, before, after)


def _method() -> SimpleITK.ImageRegistrationMethod:
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLED, seed=_SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=200, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(_SHRINK_FACTORS)
    method.SetSmoothingSigmasPerLevel([factor / 2 for factor in _SHRINK_FACTORS])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    return method


def _start(
    method: SimpleITK.ImageRegistrationMethod, fixed: SimpleITK.Image, moving: SimpleITK.Image
) -> tuple[SimpleITK.Euler3DTransform, float]:
    """Return the better initial transform, and the mutual information without any motion (0 without overlap)."""
    centre = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    as_they_are = SimpleITK.Euler3DTransform(centre)
    by_mass = SimpleITK.Euler3DTransform(
        SimpleITK.CenteredTransformInitializer(
            fixed, moving, SimpleITK.Euler3DTransform(), SimpleITK.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    scores = []
    for transform in (as_they_are, by_mass):
        method.SetInitialTransform(transform, inPlace=False)
        try:
            scores.append(-float(method.MetricEvaluate(fixed, moving)))
        except RuntimeError:
            scores.append(0.0)
    return (by_mass if scores[1] > scores[0] else as_they_are), scores[0]


def _to_image(volume: Volume, name: str) -> SimpleITK.Image:
    """Return the volume as a SimpleITK image in LPS+, averaged to voxels of about 2 mm."""
    if volume.shear_degrees > _SHEAR_DEGREES:
        raise GeometryError(
            f"{name}: its axes are sheared by {volume.shear_degrees:.3g} degrees, which rigid registration does not "
            "support: read it with --resample-tilt"
        )
    if min(volume.shape) < 4:
        raise GeometryError(f"{name}: shape {volume.shape}: rigid registration needs 4 voxels or more along each axis")
    lps = LPS_RAS @ volume.affine
    image = SimpleITK.GetImageFromArray(volume.array.astype(np.float32).transpose(2, 1, 0))
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / np.array(volume.spacing_mm)).ravel().tolist())
    factors = [max(1, min(int(_FINEST_MM / mm), n // 4)) for mm, n in zip(volume.spacing_mm, volume.shape, strict=True)]
    return SimpleITK.BinShrink(image, factors)


def _as_matrix(transform: SimpleITK.Euler3DTransform) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - matrix[:3, :3] @ centre
    return matrix
