"""Pictures for visual inspection: pure functions from arrays to images; callers write the files."""

from medcyclegan.pictures.comparison import comparison_picture
from medcyclegan.pictures.contact_sheet import contact_sheet
from medcyclegan.pictures.drawing import png_bytes
from medcyclegan.pictures.panels import comparison_panel, training_panel
from medcyclegan.pictures.preview import STAMP, preview, to_ras

__all__ = [
    "STAMP",
    "comparison_panel",
    "comparison_picture",
    "contact_sheet",
    "png_bytes",
    "preview",
    "to_ras",
    "training_panel",
]
