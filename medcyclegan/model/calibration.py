"""The calibration of one direction of a model: what ``medcyclegan calibrate`` stores in the model folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from medcyclegan.errors import ModelError, UsageError
from medcyclegan.metrics.conformal import LEVELS, corrected, fewest_patients, ratio_interval
from medcyclegan.metrics.familiarity import Familiarity
from medcyclegan.networks import ErrorHead

__all__ = ["HEAD", "OUTSIDE", "Calibration", "Reliability", "calibration_file", "load_calibration"]

#: The class of voxels outside the patient, and the region of those inside.
OUTSIDE, HEAD = "outside", "patient"
_FORMAT = 1
_FAMILIARITY = ("sizes", "mean", "deviation", "whitening", "scales", "distances")
_REMEDY = "calibrate again (medcyclegan calibrate --overwrite), or remove the file"


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The coverage of intervals on the calibration patients, each by the intervals from all other patients.

    ``coverages``: what was asked for. ``found``: class, or all inside the patient, to the mean over patients for each.
    ``width_share``: the mean width of the intervals of 90 %, relative to the constant interval that covers as much.
    """

    coverages: tuple[float, ...]
    found: Mapping[str, tuple[float, ...]]
    width_share: float


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration of the outputs of one generator.

    ``fingerprint``: that of the model. ``generator``: ``G_AB`` or ``G_BA``. ``unit``: of the outputs. ``settings``: the
    options of the translations, ``tta`` and ``planes``. ``classes``: names of the tissue classes, the first outside the
    patient. ``levels``: their boundaries in scaled outputs. ``head``: predicts the expected error. ``quantiles``: class
    to the quantiles of error / expected error at :data:`~medcyclegan.metrics.conformal.LEVELS`. ``counts``: class to
    the number of calibration patients that have it. ``fitted_on``, ``patients``: the numbers of patients for fitting
    and for calibration. ``ratios``: region to the ratio of mean and mean expected error of each calibration patient.
    ``mae``: the mean absolute error in each of them, in the unit. ``familiarity``: the distribution of the inputs.
    """

    fingerprint: str
    generator: str
    unit: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    levels: tuple[float, ...]
    head: ErrorHead
    quantiles: Mapping[str, NDArray[np.float32]]
    counts: Mapping[str, int]
    fitted_on: int
    patients: int
    ratios: Mapping[str, tuple[float, ...]]
    mae: tuple[float, ...]
    reliability: Reliability
    familiarity: Familiarity

    def check_coverage(self, coverage: float) -> None:
        """Raise :class:`~medcyclegan.errors.UsageError` for a coverage that these patients do not support."""
        if not 0.0 < coverage < 1.0:
            raise UsageError(f"--coverage {coverage:g}: use a share between 0 and 1, such as 0.9")
        needed = fewest_patients(coverage)
        if corrected(coverage, self.patients) > LEVELS[-1]:
            raise UsageError(
                f"--coverage {coverage:g} needs more than {needed} calibration patients, and this model has "
                f"{self.patients}: use a smaller one, or calibrate with more patients"
            )

    def factors(self, coverage: float) -> NDArray[np.float32]:
        """Return for each class the half-width of its intervals, in units of the expected error.

        A class that too few patients have gets the largest factor of the others.
        """
        self.check_coverage(coverage)
        found = []
        for name in self.classes:
            count = self.counts.get(name, 0)
            level = corrected(coverage, count) if count else math.inf
            found.append(float(np.interp(level, LEVELS, self.quantiles[name])) if level <= LEVELS[-1] else math.nan)
        return np.where(np.isnan(found), np.nanmax(found), found).astype(np.float32)

    def expected_mae(self, expected: float, region: str = HEAD, coverage: float = 0.9) -> tuple[float, float, float]:
        """Return the MAE to expect from a mean expected error, and the interval that contains it, in the same unit.

        The interval is that of :func:`~medcyclegan.metrics.conformal.ratio_interval`; NaN if the patients are too few.
        """
        ratios = self.ratios[region]
        low, high = ratio_interval(ratios, coverage) or (math.nan, math.nan)
        return expected * float(np.median(ratios)), expected * low, expected * high

    def usual_mae(self) -> float:
        """Return the MAE that 95 % of the calibration patients do not exceed."""
        return float(np.quantile(self.mae, 0.95))

    def to_bytes(self) -> bytes:
        """Return the calibration as safetensors: tensors, and everything else as JSON in the metadata."""
        tensors = {f"head.{key}": value.half() for key, value in self.head.state_dict().items()}
        tensors |= {f"quantiles.{name}": torch.from_numpy(values) for name, values in self.quantiles.items()}
        for name in _FAMILIARITY:
            tensors[f"familiarity.{name}"] = torch.from_numpy(np.ascontiguousarray(getattr(self.familiarity, name)))
        record = {
            "format": _FORMAT,
            "sha256": hashlib.sha256(save_tensors(tensors)).hexdigest(),
            "channels": self.head.channels,
            "reliability": dataclasses.asdict(self.reliability),
            **{name: getattr(self, name) for name in _FIELDS},
        }
        return save_tensors(tensors, {"calibration": json.dumps(record, sort_keys=True, allow_nan=False)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """Build it from :meth:`to_bytes`'s result; raises KeyError, TypeError or ValueError for anything else."""
        size = int.from_bytes(data[:8], "little")
        record = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["calibration"])
        tensors = load_tensors(data)
        if record["format"] != _FORMAT or record["sha256"] != hashlib.sha256(save_tensors(tensors)).hexdigest():
            raise ValueError("another format, or changed after it was written")
        if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("numbers that are not finite")
        head = ErrorHead(int(record["channels"]))
        head.load_state_dict(
            {key.removeprefix("head."): t.float() for key, t in tensors.items() if key.startswith("head.")}
        )
        reliability = record["reliability"]
        classes = tuple(map(str, record["classes"]))
        return cls(
            fingerprint=str(record["fingerprint"]),
            generator=str(record["generator"]),
            unit=str(record["unit"]),
            settings=dict(record["settings"]),
            classes=classes,
            levels=tuple(map(float, record["levels"])),
            head=head.eval().requires_grad_(False),
            quantiles={name: tensors[f"quantiles.{name}"].numpy() for name in classes},
            counts={str(name): int(count) for name, count in record["counts"].items()},
            fitted_on=int(record["fitted_on"]),
            patients=int(record["patients"]),
            ratios={str(name): tuple(map(float, values)) for name, values in record["ratios"].items()},
            mae=tuple(map(float, record["mae"])),
            reliability=Reliability(
                tuple(map(float, reliability["coverages"])),
                {str(name): tuple(map(float, values)) for name, values in reliability["found"].items()},
                float(reliability["width_share"]),
            ),
            familiarity=Familiarity(*(tensors[f"familiarity.{name}"].numpy() for name in _FAMILIARITY)),
        )


#: The fields that are stored as they are.
_FIELDS = (
    "fingerprint", "generator", "unit", "settings", "classes", "levels", "counts", "fitted_on", "patients", "ratios",
    "mae",
)  # fmt: skip


def calibration_file(generator: str) -> str:
    """Return the name of the file in the model folder, for the generator ``G_AB`` or ``G_BA``."""
    return f"calibration_{generator.removeprefix('G_')}.safetensors"


def load_calibration(data: bytes, generator: str, fingerprint: str) -> Calibration:
    """Return the calibration in ``data``, that of a generator of the model with this ``fingerprint``.

    Raises :class:`~medcyclegan.errors.ModelError` for a damaged calibration, or that of other weights.
    """
    name = calibration_file(generator)
    try:
        calibration = Calibration.from_bytes(data)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"{name} in the model folder is damaged ({reason})", remedy=_REMEDY) from None
    if calibration.generator != generator or calibration.fingerprint != fingerprint:
        raise ModelError(f"{name} in the model folder belongs to other weights than the model's", remedy=_REMEDY)
    return calibration
