"""Choose the volume onto whose grid each volume is brought: one of the same patient in another domain."""

from __future__ import annotations

import collections
import logging
from collections.abc import Sequence

from medcyclegan.errors import UsageError
from medcyclegan.slicing.patients.names import Vocabulary, find_vocabulary, words_of_visit
from medcyclegan.slicing.planning import PlannedCase

__all__ = ["find_partners"]

log = logging.getLogger(__name__)

#: Number of volumes without a partner that are named.
_LISTED = 5


def find_partners(cases: Sequence[PlannedCase], *, report: bool) -> dict[int, PlannedCase]:
    """Return the partner of each volume that has one, by its index in ``cases``; ``report``: log the result.

    The volumes of a patient are brought onto a volume in the first of the patient's domains, in alphabetical order. If
    there are several in this domain, or several volumes of one domain for it, the names decide: contrasts apart, they
    must have the same words. Volumes of doubtful patients, which may be several patients, and pictures have no partner.

    Raises :class:`~medcyclegan.errors.UsageError` for volumes of a single domain.
    """
    domains = sorted({case.member.domain for case in cases})
    if len(domains) < 2:
        raise UsageError(
            f"--register with volumes of {domains[0]} only: it needs the volumes of both domains in one call: name the "
            "folder that holds the folders of both, without --domain"
        )
    vocabulary = find_vocabulary((case.member.domain, case.member.found.name) for case in cases)
    of_patient: dict[str, dict[str, list[int]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for n, case in enumerate(cases):
        if case.identity.patient_source != "doubtful" and case.member.found.kind != "image":
            of_patient[case.identity.patient][case.member.domain].append(n)
    partners: dict[int, PlannedCase] = {}
    lonely: list[int] = []
    for volumes in of_patient.values():
        first, *others = sorted(volumes)
        for domain in others:
            chosen = _match(volumes[domain], volumes[first], cases, vocabulary)
            partners |= {n: cases[partner] for n, partner in chosen.items()}
            lonely += [n for n in volumes[domain] if n not in chosen]
    if report:
        _report(cases, partners, lonely)
    return partners


def _match(
    moving: Sequence[int], fixed: Sequence[int], cases: Sequence[PlannedCase], vocabulary: Vocabulary
) -> dict[int, int]:
    """Return the partner among ``fixed`` of each of the ``moving`` volumes of a patient, if it is clear which."""
    words = {n: words_of_visit(cases[n].member.found.name, vocabulary) for n in (*moving, *fixed)}
    alike = {n: [other for other in fixed if words[other] == words[n]] for n in moving}
    matched = {n: others[0] for n, others in alike.items() if len(others) == 1}
    if not matched and len(fixed) == 1:
        return dict.fromkeys(moving, fixed[0])
    return matched


def _report(cases: Sequence[PlannedCase], partners: dict[int, PlannedCase], lonely: Sequence[int]) -> None:
    counts = collections.Counter((cases[n].member.domain, other.member.domain) for n, other in partners.items())
    for (domain, onto), count in sorted(counts.items()):
        log.info("%s: %d volume%s will be brought onto the grid of %s", domain, count, "" if count == 1 else "s", onto)
    if not partners:
        log.warning("--register: no patient has volumes in two domains, so there is nothing to register")
    for n in lonely[:_LISTED]:
        log.warning(
            "%s/%s: the patient has several volumes, and the names do not show which belong together: it stays "
            "unpaired; give both volumes of a visit the same name, such as p1_visit2 in each domain",
            cases[n].member.folder, cases[n].member.found.name,
        )  # fmt: skip
    if len(lonely) > _LISTED:
        log.warning("%d more volumes stay unpaired for this reason", len(lonely) - _LISTED)
