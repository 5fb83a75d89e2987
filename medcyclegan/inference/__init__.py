"""Translate volumes with a trained model, and assess and write the result."""

from medcyclegan.inference.default_model import load_or_suggest
from medcyclegan.inference.intervals.half_width import calibration_for, interval_half_width
from medcyclegan.inference.quality import Quality, assess
from medcyclegan.inference.runtime.options import InferenceOptions
from medcyclegan.inference.translate import Model, Translation, load_models, translate
from medcyclegan.inference.translate_file import translate_file
from medcyclegan.inference.translation_options import TranslationOptions
from medcyclegan.inference.uncertainty import uncertainty_map
from medcyclegan.inference.volumes import translate_volume
from medcyclegan.model.shipped import DEFAULT_MODEL

__all__ = [
    "DEFAULT_MODEL",
    "InferenceOptions",
    "Model",
    "Quality",
    "Translation",
    "TranslationOptions",
    "assess",
    "calibration_for",
    "interval_half_width",
    "load_models",
    "load_or_suggest",
    "translate",
    "translate_file",
    "translate_volume",
    "uncertainty_map",
]
