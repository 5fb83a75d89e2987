"""Training data: unpaired batches of slices from a slice store."""

from medcyclegan.data.counter_random import Stream, random_at
from medcyclegan.data.paired import PairedSlices, Place, paired_slices
from medcyclegan.data.prefetch import BATCHES_AHEAD, prefetched_batches
from medcyclegan.data.resident import ResidentStacks, SliceReader, open_reader
from medcyclegan.data.same_place import row_pairs, shared_slices
from medcyclegan.data.stacks import SliceIndex, StackReader, check_stacks
from medcyclegan.data.unpaired import HEIGHT_BAND, Batch, Sample, Sampling, UnpairedSlices

__all__ = [
    "BATCHES_AHEAD",
    "HEIGHT_BAND",
    "Batch",
    "ResidentStacks",
    "PairedSlices",
    "Place",
    "Sample",
    "Sampling",
    "SliceIndex",
    "SliceReader",
    "StackReader",
    "Stream",
    "UnpairedSlices",
    "check_stacks",
    "open_reader",
    "paired_slices",
    "prefetched_batches",
    "random_at",
    "row_pairs",
    "shared_slices",
]
