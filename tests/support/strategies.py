"""Hypothesis strategies for the pure parts: positions in space, rows of a slice store, names."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.phantoms import make_affine

from medcyclegan.manifest import SliceRow

_PAIRS = ("LR", "PA", "IS")
AXCODES = [
    "".join(letters)
    for order in itertools.permutations(_PAIRS)
    for letters in itertools.product(*order)
]  # fmt: skip

shapes = st.tuples(*[st.integers(1, 9)] * 3)
angles = st.floats(-180.0, 180.0)
spacings_mm = st.tuples(*[st.floats(0.1, 12.0)] * 3)


def affines(
    turns: st.SearchStrategy[float] = angles, shear: st.SearchStrategy[float] | None = None
) -> st.SearchStrategy[NDArray[np.float64]]:
    """Draw affines to RAS+ mm: any order of axes, any hand, oblique, anisotropic, a tilted gantry's lean."""
    return st.builds(
        lambda codes, spacing, origin, rotation, lean: make_affine(
            codes, spacing, origin=origin, rotation_degrees=rotation, shear=lean
        ),
        st.sampled_from(AXCODES),
        spacings_mm,
        st.tuples(*[st.floats(-900.0, 900.0)] * 3),
        st.tuples(turns, turns, turns),
        shear if shear is not None else st.sampled_from([0.0, 0.0, 15.0, -22.5]),
    )


@st.composite
def slice_rows(draw: Any, domain: str, *, most: int = 4) -> list[SliceRow]:
    """Draw the rows of one domain: cases of other hashes, kept slices with holes between them."""
    rows = []
    for number in range(draw(st.integers(1, most))):
        kept = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=9)))
        span = max(1, kept[-1] - kept[0])
        case = f"{number:016x}"
        rows.append(
            SliceRow(
                domain=domain, case=case, patient=case, split="train", file=f"{domain}/{case}.npy", shape=(8, 8, 41),
                affine=tuple(map(tuple, make_affine().tolist())), slices=tuple(kept),
                heights=tuple((k - kept[0]) / span for k in kept), pixel_mm=(1.0, 1.0), modality="MR",
                scaling={"kind": "percentile", "lower": 0.0, "upper": 1.0, "unit": "arbitrary units", "air": None},
                preparation={"size": 8, "fit": "physical", "pixel_mm": 1.0}, input="00" * 8, cropped=False,
                content=f"{number:064x}", patient_source="name",
            )
        )  # fmt: skip
    return rows
