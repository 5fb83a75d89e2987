"""Tissues of the synthetic heads and their signals in MR and CT."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

__all__ = ["TISSUES", "Tissue", "spin_echo", "tissue_index"]


@dataclasses.dataclass(frozen=True)
class Tissue:
    """Physical properties of a tissue.

    ``density`` is the proton density relative to water, ``t1_ms`` and ``t2_ms`` the relaxation
    times at 1.5 T in milliseconds, ``hu`` the CT number in HU at about 120 kV.
    """

    name: str
    density: float
    t1_ms: float
    t2_ms: float
    hu: float


#: The tissues, in the order of the fraction maps of a head.
#:
#: MR: air, CSF, grey and white matter, fat and muscle are BrainWeb's values at 1.5 T (Kwan, Evans and
#: Pike, IEEE Trans. Med. Imaging 18:1085, 1999). Chosen by us, near those: deep grey matter (shorter T2 because
#: of its iron), lesion (oedema-like), bone (the 20 % bound water of cortical bone, T2 below 1 ms), diploe (fatty
#: marrow between trabeculae). CT: usual ranges from radiology textbooks (grey 37 to 41, white 20 to 30, CSF
#: 0 to 15, fat -100 to -50, muscle 40 to 60, cortical bone over 1000 HU).
TISSUES: tuple[Tissue, ...] = (
    Tissue("air", 0.0, 1.0, 1.0, -1000.0),
    Tissue("muscle", 1.0, 900.0, 47.0, 50.0),
    Tissue("fat", 1.0, 350.0, 70.0, -90.0),
    Tissue("bone", 0.2, 200.0, 0.4, 1250.0),
    Tissue("diploe", 0.75, 400.0, 60.0, 420.0),
    Tissue("csf", 1.0, 2569.0, 329.0, 8.0),
    Tissue("grey matter", 0.86, 833.0, 83.0, 39.0),
    Tissue("white matter", 0.77, 500.0, 70.0, 28.0),
    Tissue("deep grey matter", 0.84, 740.0, 68.0, 37.0),
    Tissue("lesion", 0.92, 1300.0, 170.0, 18.0),
)

_INDEX = {tissue.name: index for index, tissue in enumerate(TISSUES)}


def tissue_index(name: str) -> int:
    """Return the index of the tissue ``name`` in :data:`TISSUES` (and in a head's ``labels``)."""
    return _INDEX[name]


def spin_echo(
    density: NDArray[np.float64], t1_ms: NDArray[np.float64], t2_ms: NDArray[np.float64], *, tr_ms: float, te_ms: float
) -> NDArray[np.float64]:
    """Return the spin-echo signal ``PD (1 - exp(-TR / T1)) exp(-TE / T2)``, relative to water at rest.

    This is the steady state of the Bloch equations for a 90-180 degree spin echo with TE well below TR (for example
    Nishimura, Principles of Magnetic Resonance Imaging, section 7). All times in milliseconds.
    """
    signal: NDArray[np.float64] = density * (1.0 - np.exp(-tr_ms / t1_ms)) * np.exp(-te_ms / t2_ms)
    return signal
