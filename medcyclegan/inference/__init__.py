"""From a trained model and a volume to a volume: the model folder, translation, its outputs."""

from medcyclegan.inference.bundle import DomainModel, ModelBundle, target_scaling
from medcyclegan.inference.computing import Computing
from medcyclegan.inference.device import choose_device
from medcyclegan.inference.quality import Quality, assess
from medcyclegan.inference.training_set import describe_training_set
from medcyclegan.inference.translate import Translation, load_models, translate, translate_volume
from medcyclegan.inference.translate_file import TranslationOptions, translate_file
from medcyclegan.inference.trust import trust_map

__all__ = [
    "Computing",
    "DomainModel",
    "ModelBundle",
    "Quality",
    "Translation",
    "TranslationOptions",
    "assess",
    "choose_device",
    "describe_training_set",
    "load_models",
    "target_scaling",
    "translate",
    "translate_file",
    "translate_volume",
    "trust_map",
]
