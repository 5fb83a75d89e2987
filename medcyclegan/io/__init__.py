"""Medical volumes from and to disk: the only place that knows file formats.

Importing this is quick: nibabel, SimpleITK, pydicom and Pillow are imported by the first file that needs them.
"""

from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_volume
from medcyclegan.io.write import write_volume

__all__ = ["ReadOptions", "find_format", "read_volume", "write_volume"]
