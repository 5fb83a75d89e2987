"""Write derived DICOM series."""
