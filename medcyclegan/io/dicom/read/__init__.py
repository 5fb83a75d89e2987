"""Read DICOM series: find their images, check them, compute their geometry, decode their pixels."""
