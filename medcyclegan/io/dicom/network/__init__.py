"""Exchange series with DICOM nodes."""
