"""Photon and proton plans with pyRadPlan (extra ``dose``): planned on one CT, calculated again on others.

The machines are the generic ones of pyRadPlan, its table from HU to density relative to water is used for both, and
densities outside the head are ignored. Planning uses pyRadPlan's influence matrix; its own optimizer is not used,
because it reads keys from the terminal and stops at ``q``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medcyclegan.dose.grid import SPACING_MM, from_itk, to_itk
from medcyclegan.errors import GeometryError, MissingExtraError
from medcyclegan.logs import errors_only
from medcyclegan.volume import Volume

__all__ = ["BEAMS", "FRACTIONS", "PRESCRIBED_GY", "Particle", "Plan", "calculate", "make_plan", "require_pyradplan"]

Particle = Literal["photon", "proton"]

#: Gantry angles in degrees of the beams (IEC), all with the couch at 0. The sets are mirror-symmetric.
BEAMS: dict[Particle, tuple[float, ...]] = {"photon": (0.0, 72.0, 144.0, 216.0, 288.0), "proton": (90.0, 270.0)}
#: The dose engines: pencil beams by singular value decomposition, and those of Hong et al.
_ENGINES: dict[Particle, str] = {"photon": "SVDPB", "proton": "HongPB"}
#: The prescription: the median dose of the target on the reference, in fractions of 2 Gy.
PRESCRIBED_GY = 60.0
FRACTIONS = 30
_SPOT_MM = 5.0
#: pyRadPlan's table from HU to density ends here.
_HU_RANGE = (-1024.0, 3000.0)
#: The dose outside the target should fall to a fraction of the prescription over this distance; weights and steps.
_FALLOFF_MM = 30.0
_LOWEST_SHARE = 0.3
_OUTSIDE_WEIGHT = 0.3
_STEPS = 100
_STRIDE = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A plan on ``grid``: ``steering`` (pyRadPlan's beams and spots) and the ``weights`` of the spots.

    ``dose``: on the CT of the plan, in Gy, ``(I, J, K)``. ``head``, ``target``: masks on the grid.
    """

    particle: Particle
    steering: Any
    weights: NDArray[np.float64]
    dose: NDArray[np.float64]
    grid: Volume
    head: NDArray[np.bool_]
    target: NDArray[np.bool_]


def require_pyradplan() -> None:
    """Raise :class:`~medcyclegan.errors.MissingExtraError` if a library of the extra ``dose`` is not installed."""
    try:
        import pymedphys  # noqa: F401

        with _quiet():
            import pyRadPlan  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name or 'pyRadPlan'} is not installed, which --dose needs",
            remedy="install the extra with pip install 'medcyclegan[dose]'",
        ) from None


def make_plan(
    particle: Particle, ct: NDArray[np.float32], grid: Volume, head: NDArray[np.bool_], target: NDArray[np.bool_]
) -> Plan:
    """Plan on ``ct`` in HU ``(I, J, K)``: optimize the weights of all spots, and scale them to the prescription.

    The weights minimize the squared deviation from the prescription in the target, and the squared excess over a dose
    that falls with the distance from it. Raises :class:`~medcyclegan.errors.GeometryError` if no beam reaches the
    target.
    """
    with _quiet():
        import pyRadPlan

        image, structures = _patient(ct, grid, head, target)
        settings = _settings(particle, image)
        steering = pyRadPlan.generate_stf(image, structures, settings)
        influence = pyRadPlan.calc_dose_influence(image, structures, steering, settings)
    matrix = influence.physical_dose.flat[0].tocsc()
    weights = _optimized(matrix, _flat(target), _flat(head), grid)
    dose = _unflat(matrix @ weights, grid)
    median = float(np.median(dose[target]))
    if not median > 0:
        raise GeometryError(f"no {particle} beam reaches the target: check that the target is inside the head")
    scale = PRESCRIBED_GY / median
    return Plan(particle, steering, weights * scale, dose * scale, grid, head, target)


def calculate(plan: Plan, ct: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the dose in Gy ``(I, J, K)`` of the same spots with the same weights on another CT of the patient."""
    with _quiet():
        import pyRadPlan

        image, structures = _patient(ct, plan.grid, plan.head, plan.target)
        settings = _settings(plan.particle, image)
        result = pyRadPlan.calc_dose_forward(image, structures, plan.steering, settings, plan.weights)
    return from_itk(result["physical_dose"]).astype(np.float64)


def _patient(ct: NDArray[np.float32], grid: Volume, head: NDArray[np.bool_], target: NDArray[np.bool_]) -> Any:
    """Return pyRadPlan's CT and structures."""
    import pyRadPlan
    from pyRadPlan.cst import ExternalVOI, Target

    image = pyRadPlan.validate_ct(cube_hu=to_itk(np.clip(ct, *_HU_RANGE).astype(np.float32), grid))
    inside = {name: to_itk(mask.astype(np.uint8), grid) for name, mask in (("target", target), ("head", head))}
    structures = [
        Target(name="target", ct_image=image, mask=inside["target"]),
        ExternalVOI(name="head", ct_image=image, mask=inside["head"]),
    ]
    return image, pyRadPlan.validate_cst(structures, ct=image)


def _settings(particle: Particle, image: Any) -> Any:
    """Return pyRadPlan's settings of a plan: beams, spots, and the dose on the grid of the CT, without sampling."""
    from pyRadPlan import IonPlan, PhotonPlan

    angles = BEAMS[particle]
    beams = {"gantry_angles": list(angles), "couch_angles": [0.0] * len(angles), "bixel_width": _SPOT_MM}
    dose: dict[str, Any] = {"engine": _ENGINES[particle], "dose_grid": image.grid}
    if particle == "photon":
        # By default a random part of the matrix is left out, which recalculation would not repeat.
        dose["enable_dij_sampling"] = False
        return PhotonPlan(machine="Generic", prop_stf=beams, prop_dose_calc=dose)
    return IonPlan(radiation_mode="protons", machine="Generic", prop_stf=beams, prop_dose_calc=dose)


def _optimized(matrix: Any, target: NDArray[np.bool_], head: NDArray[np.bool_], grid: Volume) -> NDArray[np.float64]:
    """Return the weights, at least 0, that minimize the objective, by L-BFGS-B; the prescription counts as 1."""
    from scipy import ndimage, optimize

    distance_mm = _flat(ndimage.distance_transform_edt(~_unflat(target, grid)) * SPACING_MM)
    outside = np.flatnonzero(head & ~target)[::_STRIDE]
    most = np.clip(1 - distance_mm[outside] / _FALLOFF_MM, _LOWEST_SHARE, 1)
    rows = matrix.tocsr()
    in_target, around = rows[target], rows[outside]
    # Equal weights that give the prescription are the start, and the unit.
    unit = 1 / max(float(in_target.sum(axis=1).mean()), 1e-30)
    in_target, around = in_target * unit, around * unit

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        deviation = in_target @ weights - 1
        excess = np.maximum(around @ weights - most, 0)
        gradient = in_target.T @ deviation * (2 / len(deviation))
        gradient += around.T @ excess * (2 * _OUTSIDE_WEIGHT / len(excess))
        return float(np.mean(deviation**2) + _OUTSIDE_WEIGHT * np.mean(excess**2)), gradient

    start, bounds = np.ones(matrix.shape[1]), optimize.Bounds(0, np.inf)
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    weights: NDArray[np.float64] = found.x * unit
    return weights


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array ``(I, J, K)`` in the order of the rows of pyRadPlan's matrices, K slowest."""
    return array.transpose(2, 1, 0).ravel()


def _unflat(values: NDArray[Any], grid: Volume) -> NDArray[Any]:
    return values.reshape(grid.shape[::-1]).transpose(2, 1, 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and warnings that pyRadPlan and its imports print and log."""
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")
        with errors_only("pyRadPlan"):
            yield
