"""From a trained model and a volume to a volume: the model folder, translation, its outputs."""

from medcyclegan.inference.bundle import DomainModel, ModelBundle, target_scaling
from medcyclegan.inference.computing import Computing
from medcyclegan.inference.device import choose_device
from medcyclegan.inference.translate import Translation, translate, translate_volume
from medcyclegan.inference.translate_file import TranslationOptions, sidecar_path, translate_file

__all__ = [
    "Computing",
    "DomainModel",
    "ModelBundle",
    "Translation",
    "TranslationOptions",
    "choose_device",
    "sidecar_path",
    "target_scaling",
    "translate",
    "translate_file",
    "translate_volume",
]
