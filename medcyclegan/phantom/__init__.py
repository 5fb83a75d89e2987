"""Synthetic head phantoms for the demo and the tests, with a known ground truth in every contrast."""

from medcyclegan.phantom.head import Head, ct_volume, make_head, t1_volume, t2_volume
from medcyclegan.phantom.tissues import TISSUES, Tissue, spin_echo, tissue_index

__all__ = [
    "Head",
    "TISSUES",
    "Tissue",
    "ct_volume",
    "make_head",
    "spin_echo",
    "t1_volume",
    "t2_volume",
    "tissue_index",
]
