"""Translate a volume in memory, and measure the quality of the result."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from medcyclegan.errors import IntensityError
from medcyclegan.inference.quality import Quality, assess
from medcyclegan.inference.runtime.options import InferenceKeywords, InferenceOptions
from medcyclegan.inference.sidecar import build_record, noted
from medcyclegan.inference.translate import Model, load_models, translate
from medcyclegan.model.domains import choose_direction, fits_domain
from medcyclegan.volume import Volume

__all__ = ["translate_volume"]

log = logging.getLogger(__name__)


def translate_volume(
    volume: Volume,
    model: Model | Sequence[Model],
    to: str | None = None,
    *,
    force: bool = False,
    allow_synthetic: bool = False,
    quality: bool = True,
    **computing: Unpack[InferenceKeywords],
) -> Volume:
    """Translate ``volume`` into the domain ``to`` with ``model`` (a bundle, its folder, or several of them).

    The result has the input's shape ``(I, J, K)``, affine and source. Its values are in the target's
    unit: integer HU (int16) for CT, otherwise float32. Its ``derivation`` records how they were made, and
    ``result.quality["verdict"]`` is ``ok``, ``check`` or ``doubtful``, as in the JSON file next to an output. For this,
    some slices are translated back; ``quality=False`` leaves it out. ``to``
    defaults to the model's second domain, or to its first if the input's modality fits only the second.
    ``force`` accepts an input of a modality that the model was not trained on, and ``allow_synthetic`` one from a
    file that is labeled as synthetic. Several models are averaged. ``computing``: ``device``,
    ``batch_size``, ``fast``, ``backend``, ``tta`` and ``planes``, as in
    :class:`~medcyclegan.inference.runtime.options.InferenceOptions`.

    Raises :class:`~medcyclegan.errors.ModelError` for a domain that the model does not have, and
    :class:`~medcyclegan.errors.IntensityError` for an input of another modality, a CT that is not in HU, or an
    input without contrast. A failure to measure the quality is logged, and the result has none.
    """
    if volume.synthetic and not allow_synthetic:
        raise IntensityError(
            "the volume's file says that it is synthetic, not acquired: use an acquired volume, or pass "
            "allow_synthetic=True"
        )
    chosen = InferenceOptions(**computing)
    direction = choose_direction(volume, load_models(model), to)
    begun = time.monotonic()
    done = translate(volume, direction, chosen, force=force)
    record = build_record(volume, done, chosen, forced=force)
    record["seconds"] = {"translate": round(time.monotonic() - begun, 3)}
    if quality:
        forced = force and not fits_domain(volume, direction.source)
        _add_quality(record, lambda: assess(volume, done, chosen, forced=forced))
    assert done.volume.derivation is not None  # noqa: S101 (set by translate)
    return done.volume.replace(derivation=dataclasses.replace(done.volume.derivation, record=record))


def _add_quality(record: dict[str, Any], measure: Callable[[], Quality]) -> None:
    """Add the measured quality to the record; log a failure, which must not lose the translation."""
    failures: dict[str, str] = {}
    begun = time.monotonic()
    with noted(failures, "quality", "the quality of the translation was not measured"):
        record["quality"] = measure().to_dict()
    record["seconds"]["assess"] = round(time.monotonic() - begun, 3)
    if failures:
        record["failed"] = list(failures)
        log.warning("%s", "; ".join(failures.values()))
