"""Identify the patient of each volume, and find the same image under two names."""

from medcyclegan.slicing.patients.guess import Guess, Named, guess_patients
from medcyclegan.slicing.patients.identify import Identity, bids_subject, identify_patients
from medcyclegan.slicing.patients.likeness import describe_likeness, find_alike

__all__ = [
    "Guess",
    "Identity",
    "Named",
    "bids_subject",
    "describe_likeness",
    "find_alike",
    "guess_patients",
    "identify_patients",
]
