"""Export a trained model for other programs, as ONNX graphs or as a MONAI bundle."""

from medcyclegan.export.monai_bundle import export_monai_bundle
from medcyclegan.export.onnx import Parity, export_onnx

__all__ = ["Parity", "export_monai_bundle", "export_onnx"]
