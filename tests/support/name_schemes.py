"""Plausible ways to name the volumes of a cohort, to test how patients are distinguished by names.

Every entry gives, for patient ``n`` (from 1), the domain and the name of each of the patient's volumes.
"""

from __future__ import annotations

from collections.abc import Callable

Names = list[tuple[str, str]]
Scheme = Callable[[int], Names]

FIRST_NAMES = (
    "anna", "berta", "carl", "dora", "emil", "frida", "georg", "hanna", "ida", "jonas", "klara", "ludwig", "marta",
    "nora", "otto", "paula", "quirin", "rosa", "simon", "thea",
)  # fmt: skip
LAST_NAMES = (
    "abel", "bauer", "conrad", "dietz", "ebert", "fuchs", "graf", "huber", "iven", "jung", "kern", "lang", "maier",
    "neumann", "olbrich", "peters", "quast", "richter", "sauer", "thoma",
)  # fmt: skip


def _p(n: int) -> str:
    return f"P{n:02d}"


def _two(*patterns: str, domains: tuple[str, str] = ("t1", "t1")) -> Scheme:
    """Return a scheme of two volumes: ``{p}`` is P01, ``{n}`` 1, ``{name}`` a person's name."""

    def names(n: int) -> Names:
        values = {
            "p": _p(n),
            "n": n,
            "name": f"{FIRST_NAMES[n % 20]}_{LAST_NAMES[n % 20]}",
            "first": FIRST_NAMES[n % 20],
            "m": n % 12,
        }
        values |= {"h": f"{(n * 2654435761) % 2**24:06x}", "d": f"2019{n % 12 + 1:02d}{n + 4:02d}", "k": 20 * n}
        values |= {"e": f"2021{n % 11 + 2:02d}{n + 3:02d}", "site": "ABC"[n % 3], "nn": f"{n:03d}"}
        return [(domain, pattern.format(**values)) for domain, pattern in zip(domains, patterns, strict=True)]

    return names


_CT_MR = ("ct", "mr")

#: Two volumes of one patient that names tell by a visit, a time, a contrast or a processing step. No patient may be
#: guessed to be two.
VISITS: dict[str, Scheme] = {
    "baseline, followup": _two("{p}_baseline", "{p}_followup"),
    "bl, fu1": _two("{p}_bl", "{p}_fu1"),
    "M00, M12": _two("{p}_M00", "{p}_M12"),
    "m00 without a separator": _two("{p}m00", "{p}m12"),
    "month 0, month 12": _two("{p}_month0", "{p} month 12"),
    "12mo": _two("{p}_0mo", "{p}_12mo"),
    "test, retest": _two("{p}_test", "{p}_retest"),
    "visit folders": _two("visit1/{p}", "visit2/{p}"),
    "visit folders, words": _two("baseline scans/{p}", "follow-up scans/{p}"),
    "month folders": _two("M00/{p}", "M12/{p}"),
    "numbered folders": _two("1/{p}", "2/{p}"),
    "lettered folders": _two("A/{p}", "B/{p}"),
    "date folders": _two("2020-01-31/{p}", "2021-02-03/{p}"),
    "year folders": _two("2020/{p}", "2021/{p}"),
    "unknown words as folders": _two("native/{p}", "stimulated/{p}"),
    "visit folders in the patient's": _two("{p}/visit1/t1", "{p}/visit2/t1"),
    "patient's folder, dates": _two("{p}/20200131/image", "{p}/20210203/image"),
    "domains with a prefix": _two("{p}_t1", "{p}_t2", domains=("mr_t1", "mr_t2")),
    "domains not in the names": _two("{p}_T1", "{p}_CT", domains=("mr", "ct")),
    "plan and day": _two("{p}_CT_plan", "{p}_MR_day1", domains=_CT_MR),
    "contrasts without a separator": _two("{p}T1", "{p}CT", domains=("mr", "ct")),
    "contrast first": _two("T1_{p}", "CT_{p}", domains=("mr", "ct")),
    "contrast folders": _two("T1/{p}", "planning CT/{p}", domains=("mr", "ct")),
    "pre, post": _two("{p}_pre", "{p}_post"),
    "pre-op, post-op": _two("{p}_pre-op", "{p}_post-op"),
    "preRT, postRT": _two("{p}_preRT", "{p}_postRT"),
    "pre and post first": _two("pre_{p}", "post_{p}"),
    "before, after": _two("{p}_before", "{p}_after"),
    "unknown words": _two("{p}_rest", "{p}_stress"),
    "unknown words first": _two("rest_{p}", "stress_{p}"),
    "words and a number": _two("{p}_arm_left_2", "{p}_arm_right_7"),
    "dates": _two("{p}_20200131", "{p}_20210203"),
    "dates in parts": _two("{p}_2020-01-31", "{p}_2021-02-03"),
    "dates, day first": _two("{p}_31.01.2020", "{p}_03.02.2021"),
    "dates of six digits": _two("{p}_200131", "{p}_210203"),
    "dates first": _two("{d}_{p}", "{e}_{p}"),
    "date and time": _two("{p}_20200131T101500", "{p}_20210203T111000"),
    "years": _two("{p}_2020", "{p}_2021"),
    "ses-": _two("{p}_ses-01", "{p}_ses-02"),
    "ses- with words": _two("{p}_ses-pre", "{p}_ses-post"),
    "session": _two("{p}_session1", "{p}_session2"),
    "visit": _two("{p}_visit1", "{p}_visit_2"),
    "v": _two("{p}_V1", "{p}_V2"),
    "v without a separator": _two("{p}v1", "{p}v2"),
    "tp": _two("{p}_TP1", "{p}_TP2"),
    "t0, t1": _two("{p}_t0", "{p}_t3", domains=("mr", "mr")),
    "scan": _two("{p}_scan1", "{p}_scan2"),
    "study": _two("{p}_study1_T1W", "{p}_study2_T1W"),
    "exam with a number apart": _two("{p}_exam_1", "{p}_exam_2"),
    "day": _two("{p}_day0", "{p}_day30"),
    "days since entry": _two("{p}_MR_d{nn}", "{p}_MR_d{k}"),
    "week": _two("{p}_w0", "{p}_w26"),
    "years after": _two("{p}_y0", "{p}_y5"),
    "first, second": _two("{p}_first", "{p}_second"),
    "1st, 2nd": _two("{p}_1st", "{p}_2nd"),
    "number": _two("{p}_1", "{p}_2"),
    "numbers of three digits": _two("BraTS-GLI-{nn}-000", "BraTS-GLI-{nn}-101"),
    "letters": _two("{p}_A", "{p}_B"),
    "letters without a separator": _two("{p}a", "{p}b"),
    "roman": _two("{p}-I", "{p}-II"),
    "accession numbers": _two("{p}_48{nn}1", "{p}_59{nn}2"),
    "persons": _two("{name}_1", "{name}_2"),
    "persons, years": _two("{name}_2019", "{name}_2021"),
    "persons, unknown words": _two("{name}_native", "{name}_contrast"),
    "first names": _two("{first}", "{first}_control"),
    "original and copy": _two("{p}", "{p} - Copy"),
    "copy (1)": _two("{p}", "{p} (1)"),
    "processed": _two("{p}_T1", "{p}_T1_n4_brain_1mm"),
    "case of letters": _two("p{n:02d}_T1w", "P{n:02d}_CT", domains=("mr", "ct")),
    "leading zeros": _two("P{n}_T1", "P{n:03d}_CT", domains=("mr", "ct")),
    "ADNI": _two("002_S_0{nn}_bl", "002_S_0{nn}_m06"),
    "IXI": _two("IXI{nn}-Guys-0{k}-T1", "IXI{nn}-Guys-0{k}-T2", domains=("t1", "t2")),
    "hash": _two("{h}_pre", "{h}_post"),
    "numbers alone": _two("{nn}_a", "{nn}_b"),
    "number first": _two("1_{p}", "2_{p}"),
    "visit of a study": _two("study_{p}_visit1_run-01_T1w", "study_{p}_visit2_run-02_T1w"),
}


def _one(pattern: str, domain: str = "t1") -> Scheme:
    return lambda n: _two(pattern, domains=(domain,))(n)  # type: ignore[arg-type]


#: One volume a patient: as many patients as volumes.
DISTINCT: dict[str, Scheme] = {
    "patient1": _one("patient{n}"),
    "patient_01": _one("patient_{n:02d}"),
    "case_001": _one("case_{nn}"),
    "case_001 with a contrast": _one("case_{nn}_t1"),
    "P01": _one("{p}"),
    "sub01": _one("sub{n:02d}"),
    "subject-1": _one("subject-{n}"),
    "numbers": _one("{nn}"),
    "HCP numbers": _one("1003{nn}"),
    "IXI": _one("IXI{nn}-Guys-0{k}-T1"),
    "OASIS": _one("OAS3{nn}_MR_d0{k}"),
    "BraTS": _one("BraTS-GLI-{nn}-000"),
    "hash": _one("{h}"),
    "persons": _one("{name}"),
    "scan_001": _one("scan_{nn}"),
    "img1": _one("img{n}"),
    "head_scan_001": _one("head_scan_{nn}"),
    "M01": _one("M{n:02d}"),
    "V01": _one("V{n:02d}_t1"),
    "3T_anna": _one("3T_{first}"),
    "study_P01": _one("study_{p}"),
    "test_001": _one("test_{nn}"),
    "date as the name": _one("{d}"),
    "SynthRAD": _one("1B{site}{nn}"),
    "site, numbers go on": _one("site{site}_{nn}"),
    "folder a patient": _one("{p}/t1"),
    "folder a number": _one("{nn}/image"),
    "folders of sites": _one("site{site}/{p}"),
    "folder data": _one("data/{nn}"),
    "folder of the study": _one("thestudy/{p}/t1"),
    "folders of groups": lambda n: [("t1", f"controls/C{n:02d}" if n % 2 else f"patients/P{n:02d}")],
    "cases and controls": lambda n: [("t1", f"control_{(n + 1) // 2:02d}" if n % 2 else f"case_{n // 2:02d}")],
    "two domains, other patients": lambda n: [("ct", f"ct{n:02d}")] if n % 2 else [("mr", f"mr_{100 + n}")],
}

#: Names that leave it open who is who, or of which several patients may share one: never all in one.
SHARED: dict[str, Scheme] = {
    "TCGA, few patients a site": _one("TCGA-0{m}-1{nn}"),
    "ADNI, few patients a site": _one("00{m}_S_1{nn}"),
    "sites that number anew": lambda n: [("t1", f"{'CHUM' if n % 2 else 'HGJ'}-{(n + 1) // 2:03d}")],
    "groups that number anew": lambda n: [("t1", f"{'AD' if n % 2 else 'HC'}_{(n + 1) // 2:03d}")],
    "family names": lambda n: [("t1", f"{LAST_NAMES[n // 2]}_{FIRST_NAMES[n % 20]}")],
}
