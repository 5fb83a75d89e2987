"""Print how often a 95 % interval of the mean holds the true mean, by the number of patients and the method.

    python tests/benchmarks/coverage.py [--simulations 2000]

Scores are drawn from distributions whose mean is known: normal, and skewed ones such as errors have. ``t`` is what
``evaluate`` prints from 10 patients on; BCa and the percentile bootstrap are scipy's, 1,000 resamples. The last table
has patients with three sessions each: an interval that counts sessions as patients, and one of patients.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from scipy import stats

from medcyclegan.evaluation.statistics import mean_interval

SIZES = range(2, 31)
#: Name, draws of (simulations, n), true mean. Skewness: 0, 1.4, 2 and 6.2.
DISTRIBUTIONS = {
    "normal": (lambda rng, shape: rng.normal(60.0, 15.0, shape), 60.0),
    "gamma, shape 2": (lambda rng, shape: rng.gamma(2.0, 30.0, shape), 60.0),
    "exponential": (lambda rng, shape: rng.exponential(60.0, shape), 60.0),
    "log-normal, sigma 1": (lambda rng, shape: rng.lognormal(0.0, 1.0, shape), np.exp(0.5)),
}
RESAMPLES, SESSIONS = 1000, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args().simulations
    error = 100 * np.sqrt(0.95 * 0.05 / simulations)
    print(f"coverage in %, {simulations} simulations (standard error about {error:.1f} where it is 95)")
    for name, (draw, mean) in DISTRIBUTIONS.items():
        print(f"\n{name}\n{'patients':>8} {'t':>7} {'BCa':>7} {'percentile':>11}")
        for n in SIZES:
            values = draw(np.random.default_rng([n, 0]), (simulations, n))
            row = [covered(t_intervals(values), mean)]
            row += [covered(bootstrap_intervals(values, method), mean) for method in ("BCa", "percentile")]
            print(f"{n:>8} {row[0]:7.1f} {row[1]:7.1f} {row[2]:11.1f}", flush=True)
    print_sessions(simulations)


def covered(intervals: np.ndarray, mean: float) -> float:
    """Return the percentage of intervals ``(simulations, 2)`` that hold the true mean."""
    return 100 * float(np.mean((intervals[:, 0] <= mean) & (mean <= intervals[:, 1])))


def t_intervals(values: np.ndarray) -> np.ndarray:
    """Return the interval of each row ``(simulations, n)`` as the package computes it, below its limit too."""
    return np.array([mean_interval(row, fewest=2) for row in values])


def bootstrap_intervals(values: np.ndarray, method: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BCa has no interval for equal resamples: it counts as not covering
        interval = stats.bootstrap(
            (values,), np.mean, axis=1, n_resamples=RESAMPLES, method=method, batch=50, rng=np.random.default_rng(1)
        ).confidence_interval
    return np.stack([interval.low, interval.high], axis=1)


def print_sessions(simulations: int) -> None:
    print(f"\n{SESSIONS} sessions a patient, half of the variance between patients, normal")
    print(f"{'patients':>8} {'t of patients':>14} {'t of sessions':>14}")
    for n in (10, 15, 20, 30):
        rng = np.random.default_rng([n, 1])
        values = rng.normal(60, 15, (simulations, n, 1)) + rng.normal(0, 15, (simulations, n, SESSIONS))
        of_patients = covered(t_intervals(values.mean(axis=2)), 60.0)
        of_sessions = covered(t_intervals(values.reshape(simulations, -1)), 60.0)
        print(f"{n:>8} {of_patients:14.1f} {of_sessions:14.1f}")


if __name__ == "__main__":
    main()
