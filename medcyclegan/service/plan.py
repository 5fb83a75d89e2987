"""Decide which series of a study are translated, by the rules."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping

from medcyclegan.config import Rule, Serving
from medcyclegan.io.dicom.network.address import SCHEME, DicomNode
from medcyclegan.io.dicom.summary import SeriesSummary, summarize_series
from medcyclegan.service.queue import Queue

__all__ = ["Planned", "Planner", "node_at"]


@dataclasses.dataclass(frozen=True)
class Planned:
    """One series of a study: ``name`` is its hash, and ``ignored`` says why it is not translated; empty if it is."""

    name: str
    series: SeriesSummary
    address: str = ""
    to: str | None = None
    digest: str = ""
    allow_gap: bool = False
    ignored: str = ""


@dataclasses.dataclass(frozen=True)
class Planner:
    """What decides on a series: the rules, the default node and domain, and what identifies the translation.

    ``identity``: the model and the settings; if they change, a series that was sent before is translated again.
    """

    serving: Serving
    address: str
    to: str | None
    title: str
    identity: tuple[str, ...]

    def plan(self, queue: Queue, name: str) -> list[Planned]:
        """Return the series of the study ``name`` in ``waiting``, with the decision on each."""
        sender = queue.sender("waiting", name)
        return [
            self._plan_series(queue, series, sender) for series in summarize_series(queue.path("waiting", name) / "in")
        ]

    def addresses(self) -> set[str]:
        """Return the address of every node to which a rule may send."""
        return {self.address, *(self._address(rule) for rule in self.serving.rules)}

    def targets(self) -> set[str]:
        """Return every domain that is named as a target."""
        named = {self.to, *(rule.to for rule in self.serving.rules)}
        return {to for to in named if to is not None}

    def _plan_series(self, queue: Queue, series: SeriesSummary, sender: str) -> Planned:
        name = queue.hash(series.uid)
        if series.is_synthetic:  # an archive that forwards all that it receives would send results back forever
            return Planned(name, series, ignored="it is synthetic")
        rule = _first_match(self.serving.rules, series, sender)
        if rule is None or rule.skip:
            return Planned(name, series, ignored="no rule matches" if rule is None else "a rule says skip")
        address, to = self._address(rule), rule.to or self.to
        digest = queue.hash(*self.identity, to or "", str(rule.allow_gap), address, series.uid, *series.instance_uids)
        if queue.is_remembered(digest, self.serving.limits.remember_days):
            return Planned(name, series, ignored="it was translated before")
        return Planned(name, series, address, to, digest, rule.allow_gap)

    def _address(self, rule: Rule) -> str:
        return node_at(rule.send_to, self.title) if rule.send_to else self.address


def node_at(address: str, title: str) -> str:
    """Return the complete address of a node that is given as ``AET@host:port``, with our title as the calling one.

    Raises :class:`~medcyclegan.errors.UsageError` for an invalid one.
    """
    whole = address if address.lower().startswith(SCHEME) else SCHEME + address
    DicomNode.parse(whole)
    if "calling=" not in whole.partition("?")[2]:
        whole += f"{'&' if '?' in whole else '?'}calling={title}"
    return whole


def _first_match(rules: tuple[Rule, ...], series: SeriesSummary, sender: str) -> Rule | None:
    found: Mapping[str, str] = {
        "description": series.description,
        "study_description": series.study_description,
        "protocol": series.protocol,
        "body_part": series.body_part,
        "sender": sender,
    }
    for rule in rules:
        patterns = {field: pattern for field in found if (pattern := getattr(rule, field)) is not None}
        if series.modality in ((rule.modality,) if rule.modality else ("CT", "MR")) and all(
            fnmatch.fnmatchcase(found[field].lower(), pattern.lower()) for field, pattern in patterns.items()
        ):
            return rule
    return None
