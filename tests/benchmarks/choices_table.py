"""The tables of choices.py, in Markdown, of the results that are there."""

from __future__ import annotations

import collections
import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from scipy.stats import spearmanr

SETS = ("brain", "skull", "synthetic")
#: Candidates, and whether a higher value is taken as the better one.
CANDIDATES = {
    "sliced_wasserstein": ("sliced Wasserstein", False),
    "histogram": ("histogram distance", False),
    "cycle": ("cycle error", False),
    "mutual_information": ("mutual information with the input", True),
    "likeness_to_start": ("correlation with the shipped model's output", True),
    "agreement": ("agreement of contrasts", True),
}
#: Choices with tables of their own.
APART = ("pairs", "supervised", "allpaired", "public", "start")

Results = list[dict]


def print_tables(out: Path) -> None:
    results = [json.loads(path.read_text()) for path in sorted((out / "results").glob("*.json"))]
    failed = [one for one in results if "error" in one]
    good = [one for one in results if "error" not in one]
    print(f"{len(good)} results, {len(failed)} failed")
    for one in failed:
        print(f"- failed: {name_of(one)}: {one['error'].splitlines()[0][:200]}")
    for data in SETS:
        own = [one for one in good if one["data"] == data]
        if own:
            print_set(data, own)
    print_candidates(good)


def name_of(one: dict) -> str:
    return f"{one['data']}-{one['start']}-{one['choice']}-{one['steps']}-{one['seed']}"


def print_set(data: str, results: Results) -> None:
    started = next((one for one in results if one["choice"] == "start"), None)
    for start in ("shipped", "scratch"):
        own = [one for one in results if one["start"] == start and not one["choice"].startswith(APART)]
        counts = collections.Counter(one["steps"] for one in own if one["choice"] != "base")
        if counts:
            usual = counts.most_common(1)[0][0]
            rows = groups(one for one in own if one["steps"] == usual and one["seed"] < 3)
            print_rows(f"{data}, {start}: choices, {usual} steps", rows, started)
        lengths = groups((one for one in own if one["choice"] == "base" and one["seed"] < 3), "steps")
        if len(lengths) > 1:
            rows = {f"{steps} steps": lengths[steps] for steps in sorted(lengths)}
            print_rows(f"{data}, {start}: steps", rows, started, base=None)
        many = [one for one in own if one["choice"] == "mask"]
        if len(many) > 3:
            print_many(data, start, many)
    scratch = [one for one in results if one["start"] == "scratch"]
    for title, names in (
        ("pairs", ("pairs1", "pairs2", "pairs5", "pairs20", "allpaired", "supervised")),
        ("the public CycleGAN's arithmetic", ("public",)),
    ):
        found = groups(one for one in scratch if one["choice"] in names)
        if found:
            steps = next(iter(found.values()))[0]["steps"]
            base = groups(one for one in scratch if one["choice"] == "base" and one["steps"] == steps)
            rows = {**base, **{name: found[name] for name in names if name in found}}
            print_rows(f"{data}, from nothing: {title}", rows, started)


def groups(results: Iterable[dict], key: str = "choice") -> dict:
    """Return the results by ``key``, the base first and the others by falling PSNR."""
    found = collections.defaultdict(list)
    for one in results:
        found[one[key]].append(one)
    return dict(sorted(found.items(), key=lambda item: (item[0] != "base", -mean_psnr(item[1]))))


def mean_psnr(results: Results) -> float:
    return statistics.fmean(true_psnr(one) for one in results)


def true_psnr(one: dict) -> float:
    """Return the PSNR of one run in the head, the mean over both directions."""
    return statistics.fmean(one["scores"][f"{name} head"]["psnr"] for name in ("t1", "t2"))


def print_rows(title: str, rows: dict[str, Results], started: dict | None, base: str | None = "base") -> None:
    """Print a table of the PSNR in each direction and region.

    "*" marks a difference from the base of more than two standard deviations, the larger ones of the two rows.
    """
    places = list(next(iter(rows.values()))[0]["scores"])
    note = "" if base is None else f"; * more than two of them from {base}"
    print(f"\n**{title}**: PSNR in dB, mean (standard deviation over seeds){note}\n")
    print("| | runs | " + " | ".join(places) + " | wrong contrast | seconds |")
    print("| --- | ---: |" + " ---: |" * (len(places) + 2))
    for label, key in (("the input", "input"), ("the shipped model", "scores")):
        if started is not None:
            print(f"| {label} | | " + " | ".join(f"{started[key][place]['psnr']:.2f}" for place in places) + " | | |")
    for label, own in rows.items():
        cells = []
        for place in places:
            mean, deviation = spread([one["scores"][place]["psnr"] for one in own])
            mark = ""
            if base in rows and label != base:
                other, others = spread([one["scores"][place]["psnr"] for one in rows[base]])
                wide = max(deviation or 0.0, others or 0.0)
                mark = " *" if None not in (deviation, others) and abs(mean - other) > 2 * wide else ""
            shown = "" if deviation is None else f" ({deviation:.2f})"
            cells.append(f"{mean:.2f}{shown}{mark}")
        wrong = sum(bool(one["wrong"]) for one in own)
        seconds = statistics.fmean(one["seconds"] for one in own)
        print(f"| {label} | {len(own)} | " + " | ".join(cells) + f" | {wrong} of {len(own)} | {seconds:.0f} |")


def spread(values: list[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def print_many(data: str, start: str, results: Results) -> None:
    """Print the spread over many seeds."""
    seeds, steps = len(results), results[0]["steps"]
    print(f"\n**{data}, {start}: {seeds} seeds, {steps} steps**\n")
    print("| | PSNR mean | deviation | lowest | highest | range | wrong contrast |")
    print("| --- |" + " ---: |" * 6)
    for place in results[0]["scores"]:
        values = [one["scores"][place]["psnr"] for one in results]
        mean, deviation = spread(values)
        low, high = min(values), max(values)
        wrong = sum(place in one["wrong"] for one in results)
        print(f"| {place} | {mean:.2f} | {deviation:.2f} | {low:.2f} | {high:.2f} | {high - low:.2f} | {wrong} |")


def print_candidates(results: Results) -> None:
    """Print how well each score without truth knows the PSNR, and what is lost by choosing seeds with it."""
    trained = [one for one in results if one["steps"]]
    shown = {data: [one for one in trained if one["data"] == data] for data in SETS}
    shown = {data: own for data, own in shown.items() if len(own) > 2}
    if not shown:
        return
    print("\n**Scores without truth**: rank correlation with the PSNR in the head over all runs (1: knows it),")
    print("and PSNR in dB lost by choosing the best of the seeds with it; both directions\n")
    titles = [f"{data} ({len(own)} runs, {len(seeds_of(own))} sets of seeds)" for data, own in shown.items()]
    print("| candidate | " + " | ".join(f"{title}: rank | lost, mean | lost, most" for title in titles) + " |")
    print("| --- |" + " ---: |" * (3 * len(titles)))
    for key, (label, rising) in CANDIDATES.items():
        cells = []
        for own in shown.values():
            values = [one["candidates"][key] * (1 if rising else -1) for one in own]
            rank = spearmanr(values, [true_psnr(one) for one in own]).statistic
            lost = losses_by(own, key, rising)
            cells += (
                [f"{rank:.2f}", f"{statistics.fmean(lost):.2f}", f"{max(lost):.2f}"]
                if lost
                else [f"{rank:.2f}", "", ""]
            )
        print(f"| {label} | " + " | ".join(cells) + " |")
    cells = []
    for own in shown.values():
        gaps = [true_psnr(best_of(seeds, true_psnr)) - mean_psnr(seeds) for seeds in seeds_of(own)]
        cells += ["", f"{statistics.fmean(gaps):.2f}", f"{max(gaps):.2f}"] if gaps else ["", "", ""]
    print("| any seed, on average | " + " | ".join(cells) + " |")


def losses_by(results: Results, key: str, rising: bool) -> list[float]:
    """Return the PSNR lost, per set of seeds, by taking the seed whose candidate is best instead of the best seed."""
    sign = 1 if rising else -1
    return [
        true_psnr(best_of(seeds, true_psnr)) - true_psnr(best_of(seeds, lambda one: sign * one["candidates"][key]))
        for seeds in seeds_of(results)
    ]


def best_of(seeds: Results, score) -> dict:
    return max(seeds, key=score)


def seeds_of(results: Results) -> list[Results]:
    """Return the runs that differ only by their seed, where there are several."""
    found = collections.defaultdict(list)
    for one in results:
        found[one["start"], one["choice"], one["steps"]].append(one)
    return [own for own in found.values() if len(own) > 1]
