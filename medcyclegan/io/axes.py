"""Axis codes such as ``LAS``: the directions of the array axes in the patient, for headers that do not state them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["are_axis_codes", "axis_directions"]

#: The RAS+ world axis and sign of each letter.
_LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def are_axis_codes(text: str) -> bool:
    """Whether ``text`` names three different patient axes by the letters R or L, A or P, S or I, in any order."""
    return len(text) == 3 and {_LETTERS.get(letter, (None,))[0] for letter in text} == {0, 1, 2}


def axis_directions(codes: str) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix whose columns are the directions (RAS+) in which array indices grow.

    >>> axis_directions("LAS")
    array([[-1.,  0.,  0.],
           [ 0.,  1.,  0.],
           [ 0.,  0.,  1.]])
    """
    directions = np.zeros((3, 3))
    for axis, letter in enumerate(codes):
        world, sign = _LETTERS[letter]
        directions[world, axis] = sign
    return directions
