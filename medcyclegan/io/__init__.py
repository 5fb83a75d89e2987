"""Read and write medical volumes: the only part that knows file formats.

Importing it is fast: nibabel, SimpleITK, pydicom and Pillow are imported by the first file that needs them.
"""

from medcyclegan.io.ahead import read_ahead
from medcyclegan.io.anonymous import anonymous_reason
from medcyclegan.io.discover import FoundVolume, find_volumes, read_found_volume
from medcyclegan.io.formats import find_output_format, output_ending
from medcyclegan.io.links import check_exists
from medcyclegan.io.options import ReadOptions
from medcyclegan.io.read import find_format, read_volume, read_with_options
from medcyclegan.io.sidecar import announced, check_new_translation, read_translation_record, record_bytes, sidecar_path
from medcyclegan.io.write import SeriesOptions, check_output_format, check_writable, write_output, write_volume

__all__ = [
    "FoundVolume",
    "ReadOptions",
    "SeriesOptions",
    "announced",
    "anonymous_reason",
    "check_exists",
    "check_new_translation",
    "check_output_format",
    "check_writable",
    "find_format",
    "find_output_format",
    "find_volumes",
    "output_ending",
    "read_ahead",
    "read_found_volume",
    "read_translation_record",
    "read_volume",
    "read_with_options",
    "record_bytes",
    "sidecar_path",
    "write_output",
    "write_volume",
]
