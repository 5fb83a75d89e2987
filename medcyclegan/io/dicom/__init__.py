"""DICOM: series in, derived series out, and the network between."""
