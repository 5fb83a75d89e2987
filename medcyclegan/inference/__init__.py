"""Translate volumes with a trained model, and assess and write the result."""

from medcyclegan.inference.intervals.half_width import calibration_for, interval_half_width
from medcyclegan.inference.quality import Quality, assess
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Translation, load_models, translate, translate_volume
from medcyclegan.inference.translate_file import TranslationOptions, translate_file
from medcyclegan.inference.uncertainty import uncertainty_map

__all__ = [
    "InferenceOptions",
    "Quality",
    "Translation",
    "TranslationOptions",
    "assess",
    "calibration_for",
    "interval_half_width",
    "load_models",
    "translate",
    "translate_file",
    "translate_volume",
    "uncertainty_map",
]
