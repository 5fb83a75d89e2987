"""Test how well names identify patients: schemes in which one becomes two, or several become one, as Markdown.

    python tests/benchmarks/patient_names.py

20 patients for each scheme. First the schemes of tests/support/name_schemes.py, then every combination of a patient's
name, a pair of visits, a separator and a position of the visit, in one domain and in two. A patient who becomes two may
be in two splits; patients who become one are in one split, which only costs held-out patients.
"""

from __future__ import annotations

import collections
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.name_schemes import DISTINCT, FIRST_NAMES, LAST_NAMES, SHARED, VISITS, Scheme

from medcyclegan.slicing.patients import Named, guess_patients

PATIENTS = 20
#: Names of patients; ``{s}`` is the separator.
IDS = {
    "P01": lambda n: f"P{n:02d}",
    "001": lambda n: f"{n:03d}",
    "1": str,
    "sub01": lambda n: f"sub{n:02d}",
    "person": lambda n: f"{FIRST_NAMES[n % 20]}{{s}}{LAST_NAMES[n % 20]}",
    "first name": lambda n: FIRST_NAMES[n % 20],
    "IXI001": lambda n: f"IXI{n:03d}",
    "hash": lambda n: f"{n * 2654435761 % 2**24:06x}",
    "patient_01": lambda n: f"patient{{s}}{n:02d}",
    "S01": lambda n: f"S{n:02d}",
    "M01": lambda n: f"M{n:02d}",
    "V01": lambda n: f"V{n:02d}",
    "T01": lambda n: f"T{n:02d}",
    "C001": lambda n: f"C{n:03d}",
    "six digits": lambda n: f"10{37 * n:04d}",
    "STUDY_001": lambda n: f"STUDY{{s}}{n:03d}",
    "AB_01, CD_02": lambda n: f"{'AB' if n % 2 else 'CD'}{{s}}{n:02d}",
    "GUY_001, HH_001": lambda n: f"{'GUY' if n % 2 else 'HH'}{{s}}{(n + 1) // 2:03d}",
    "1BA001": lambda n: f"1B{'ABC'[n % 3]}{n:03d}",
    "0001_M": lambda n: f"{n:04d}{{s}}{'MF'[n % 2]}",
    "2019_001": lambda n: f"{2018 + n % 3}{{s}}{n:03d}",
}
#: What two volumes of a patient differ by.
PAIRS = [
    ("T1", "CT"), ("t1", "t2"), ("pre", "post"), ("baseline", "followup"), ("M00", "M12"), ("test", "retest"),
    ("visit1", "visit2"), ("v1", "v2"), ("1", "2"), ("01", "02"), ("a", "b"), ("A", "B"), ("20200101", "20210305"),
    ("2020-01-01", "2021-03-05"), ("ses-1", "ses-2"), ("day0", "day7"), ("d0", "d7"), ("wk1", "wk12"),
    ("scan1", "scan2"), ("first", "second"), ("I", "II"), ("native", "contrast"), ("rest", "stress"), ("left", "right"),
    ("", "followup"), ("", "2"), ("", "post"), ("t0", "t1"), ("tp1", "tp2"), ("before", "after"), ("2019", "2021"),
    ("alpha1", "beta2"), ("MR_T1", "CT_plan"), ("bl", "fu"), ("screening", "week4"), ("0001", "0002"), ("init", "end"),
    ("dose1", "dose2"), ("high", "low"), ("arterial", "venous"),
]  # fmt: skip
PLACES = ("after", "before", "in the patient's folder", "as a folder")

Outcome = tuple[int, int]


def main() -> int:
    print("| names | schemes | a patient becomes two | fewer patients than there are | under a quarter |")
    print("| --- | ---: | ---: | ---: | ---: |")
    leaking = 0
    for title, schemes in (("two volumes a patient", VISITS), ("one volume", DISTINCT), ("several readings", SHARED)):
        leaking += report(title, [judge(scheme) for scheme in schemes.values()])
    combined: dict[str, list[Outcome]] = collections.defaultdict(list)
    for make, pair, separator, place, domains in itertools.product(
        IDS.values(), PAIRS, "_-", PLACES, (("t1", "t1"), ("t1", "ct"))
    ):
        combined[place].append(judge(combine(make, pair, separator, place, domains)))
    for place, outcomes in combined.items():
        report(f"combined, the visit {place}", outcomes)
    single = [
        judge(combine(make, (word, word), separator, "after", ("t1", "t1"), volumes=1))
        for make, word, separator in itertools.product(IDS.values(), ("", "T1", "image", "ct_1mm"), "_-")
    ]
    report("combined, one volume a patient", single)
    return 1 if leaking else 0


def report(title: str, outcomes: Sequence[Outcome]) -> int:
    """Print a row, and return in how many schemes a patient becomes two."""
    leaking = sum(split > 0 for split, _ in outcomes)
    merged = [found for _, found in outcomes if found < PATIENTS]
    few = sum(found < PATIENTS / 4 for found in merged)
    print(f"| {title} | {len(outcomes)} | {leaking} | {len(merged)} | {few} |", flush=True)
    return leaking


def judge(scheme: Scheme) -> Outcome:
    """Return how many patients become two or more, and how many patients there seem to be."""
    volumes = [(n, *volume) for n in range(1, PATIENTS + 1) for volume in scheme(n)]
    guesses = guess_patients([Named(domain, name) for _, domain, name in volumes], {})
    by_patient: dict[int, set[str]] = collections.defaultdict(set)
    for (n, _, _), guess in zip(volumes, guesses, strict=True):
        by_patient[n].add(guess.patient)
    return sum(len(found) > 1 for found in by_patient.values()), len({guess.patient for guess in guesses})


def combine(make, pair, separator: str, place: str, domains: Sequence[str], volumes: int = 2) -> Scheme:
    """Return the scheme of a patient's name and what its volumes differ by."""

    def names(n: int) -> Iterable[tuple[str, str]]:
        patient = make(n).format(s=separator)
        for word, domain in list(zip(pair, domains, strict=True))[:volumes]:
            yield (
                domain,
                {
                    "after": f"{patient}{separator}{word}" if word else patient,
                    "before": f"{word}{separator}{patient}" if word else patient,
                    "in the patient's folder": f"{patient}/{word or 'image'}",
                    "as a folder": f"{word or 'other'}/{patient}",
                }[place],
            )

    return lambda n: list(names(n))


if __name__ == "__main__":
    sys.exit(main())
