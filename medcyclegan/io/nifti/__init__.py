"""NIfTI files: header, affine, voxels, in both directions."""
