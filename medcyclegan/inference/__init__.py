"""From a trained model and a volume to a volume: the model folder, translation, its outputs."""

from medcyclegan.inference.quality import Quality, assess
from medcyclegan.inference.runtime.options import Computing
from medcyclegan.inference.translate import Translation, load_models, translate, translate_volume
from medcyclegan.inference.translate_file import TranslationOptions, translate_file
from medcyclegan.inference.uncertainty import trust_map

__all__ = [
    "Computing",
    "Quality",
    "Translation",
    "TranslationOptions",
    "assess",
    "load_models",
    "translate",
    "translate_file",
    "translate_volume",
    "trust_map",
]
