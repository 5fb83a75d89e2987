"""Translate a volume and show that every voxel stays in its place in the patient.

python examples/translate_and_keep_geometry.py IN OUT.nii.gz --model MODEL [--to DOMAIN]
"""

import argparse
from pathlib import Path

import numpy as np

from medcyclegan import ModelBundle, read_volume, translate_volume, write_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--to")
    arguments = parser.parse_args()

    volume = read_volume(arguments.source)
    bundle = ModelBundle.load(arguments.model)
    translated = translate_volume(volume, bundle, to=arguments.to)
    write_volume(translated, arguments.out)

    again = read_volume(arguments.out)
    spacing = " x ".join(f"{mm:g}" for mm in volume.spacing_mm)
    print(f"{volume.shape} voxels of {spacing} mm, {volume.orientation}, {volume.oblique_degrees:.1f} degrees oblique")
    assert again.shape == volume.shape

    # Every voxel has the same position in the patient (RAS+ mm) in both volumes; it suffices to check the corners.
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape], indexing="ij")).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    moved_mm = np.linalg.norm((again.affine @ corners - volume.affine @ corners)[:3], axis=0)
    print(f"the corners of the volume moved by at most {moved_mm.max():.2g} mm")
    assert moved_mm.max() < 1e-3
    print(f"value range {np.ptp(volume.array):g} before, {np.ptp(again.array):g} after, modality {translated.modality}")


if __name__ == "__main__":
    main()
