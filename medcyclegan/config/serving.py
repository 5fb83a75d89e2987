"""Schema of the rules file of ``serve``: which series are translated, and the limits of the node."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Limits", "Rule", "Serving", "Waiting"]

Pattern = Annotated[str, Field(min_length=1, max_length=64)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class _Section(BaseModel):
    """A section of the rules file: frozen, without unknown keys, every field documented."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Rule(_Section):
    """Which series are translated and where the results are sent. All given conditions must hold.

    Conditions with ``*`` are patterns, which ignore upper and lower case and must match the whole text.
    """

    modality: Literal["CT", "MR"] | None = None
    """Modality; null: CT and MR."""
    description: Pattern | None = None
    """Pattern of SeriesDescription, such as ``*t1*``."""
    study_description: Pattern | None = None
    """Pattern of StudyDescription."""
    protocol: Pattern | None = None
    """Pattern of ProtocolName."""
    body_part: Pattern | None = None
    """Pattern of BodyPartExamined, such as ``HEAD``."""
    sender: Pattern | None = None
    """Pattern of the sender's application entity title."""
    to: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The domain to translate to; null: the option ``--to``, or the model's default for the series' modality."""
    send_to: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Where the result is sent, as in ``--send-to``; null: the node of that option."""
    allow_gap: bool = False
    """Accept uneven gaps of at most 10 mm between slices, and resample, as ``translate-volume --allow-gap``."""
    skip: bool = False
    """Do not translate the series that match."""


class Waiting(_Section):
    """When a study is complete."""

    settle_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """Seconds after the end of the sender's associations; a sender may open one association per image."""
    quiet_s: Seconds = 60.0
    """Seconds without an image while an association is still open, or after one broke."""


class Limits(_Section):
    """What the node accepts, and how long it tries."""

    associations: Annotated[int, Field(ge=1, le=1000)] = 16
    """Largest number of associations at once."""
    timeout_s: Seconds = 60.0
    """Seconds after which a connection that sends nothing is closed."""
    object_mb: Annotated[float, Field(gt=0, le=65_536)] = 1024.0
    """Largest object, in MB."""
    images_per_study: Count = 10_000
    """Largest number of images of a study."""
    studies: Count = 1_000
    """Largest number of studies in the queue."""
    keep_free_mb: Annotated[float, Field(ge=0, le=10_000_000)] = 1000.0
    """Disk space that stays free, in MB, besides the space for results; images that would use it are refused."""
    translation_s: Annotated[float, Field(gt=0, le=604_800)] = 3600.0
    """Seconds that the translation of one study may take."""
    translation_attempts: Annotated[int, Field(ge=1, le=100)] = 2
    """Attempts for a study whose translation crashes or exceeds its time."""
    sending_attempts: Annotated[int, Field(ge=1, le=1000)] = 8
    """Attempts for a study that a node refuses. A node that does not answer is tried until it does."""
    keep_failed_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    """Days after which a failed study is deleted."""
    remember_days: Annotated[float, Field(ge=0, le=3650)] = 30.0
    """Days for which a series that was sent is not translated again; 0: always translate again."""


class Serving(_Section):
    """The rules file. The first rule that matches a series decides; a series that matches no rule is ignored."""

    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=1000)] = (Rule(),)
    """The rules, in order; by default, one that matches every CT and MR series."""
    note_refusals: bool = False
    """Add a text note to the study if one of its series matches a rule and cannot be translated."""
    waiting: Waiting = Waiting()
    """When a study is complete."""
    limits: Limits = Limits()
    """What the node accepts, and how long it tries."""
