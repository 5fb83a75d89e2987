"""docs/verdict.md states the limits that the code uses."""

from pathlib import Path

from medcyclegan.inference import quality
from medcyclegan.model import fitness
from medcyclegan.training.monitor import health


def test_the_documented_limits_are_those_that_are_used():
    text = " ".join((Path(__file__).parents[2] / "docs" / "verdict.md").read_text().split())
    for sentence in (
        f"| fewer than {fitness._FEW_STEPS} | fewer than {fitness._HANDFUL_OF_STEPS} |",
        f"in either domain | fewer than {fitness._FEW_PATIENTS} |",
        f"that the scaling clips | more than {quality._MOST_CLIPPED} |",
        f"beyond those of the input | more than {quality._MOST_FLICKER} |",
        f"fraction of the input's range | more than {quality._MOST_CYCLE_ERROR} |",
        f"(at least {quality._LEAST_SPREAD} of the scaled range) "
        f"| more than {quality._ODD_HISTOGRAM:g} | more than {quality._ALIEN_HISTOGRAM:g} |",
        f"by more than a factor of {quality._SPACING_FACTOR}",
        f"(p-value) | at most {quality._UNFAMILIAR} | also more than {quality._ALIEN_DISTANCE:g} times as far",
        f"at the latest at step {health._PATIENCE_STEPS}",
    ):
        assert sentence in text, sentence
    assert (health._CONSECUTIVE_CHECKS, health._FIRST_SHARE, health._PATIENCE_SHARE) == (3, 0.1, 0.5), (
        "written as words in the page"
    )
