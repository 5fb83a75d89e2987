"""Slices for training: unpaired batches from a slice store."""

from medcyclegan.data.counter_random import Stream, random_at
from medcyclegan.data.prefetch import prefetched_batches
from medcyclegan.data.stacks import SliceIndex, StackReader, check_stacks
from medcyclegan.data.unpaired import HEIGHT_BAND, Batch, Sample, Sampling, UnpairedSlices

__all__ = [
    "HEIGHT_BAND",
    "Batch",
    "Sample",
    "Sampling",
    "SliceIndex",
    "StackReader",
    "Stream",
    "UnpairedSlices",
    "check_stacks",
    "prefetched_batches",
    "random_at",
]
