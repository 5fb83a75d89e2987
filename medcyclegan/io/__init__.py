"""Read and write medical volumes: the only part that knows file formats.

Importing it is fast: nibabel, SimpleITK, pydicom and Pillow are imported by the first file that needs them.
"""

from medcyclegan.io.anonymous import anonymous_reason
from medcyclegan.io.discover import FoundVolume, find_volumes, read_found_volume
from medcyclegan.io.links import check_exists
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_volume, read_with_options
from medcyclegan.io.sidecar import read_translation_record, sidecar_path
from medcyclegan.io.write import check_output_format, check_writable, write_volume

__all__ = [
    "FoundVolume",
    "ReadOptions",
    "anonymous_reason",
    "check_exists",
    "check_output_format",
    "check_writable",
    "find_format",
    "find_volumes",
    "read_found_volume",
    "read_translation_record",
    "read_volume",
    "read_with_options",
    "sidecar_path",
    "write_volume",
]
