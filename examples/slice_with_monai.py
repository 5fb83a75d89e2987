"""Slice one volume with the public MONAI transforms, draw the slices, and invert the transforms.

python examples/slice_with_monai.py VOLUME OUT.png [--modality CT|MR]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medcyclegan import read_volume
from medcyclegan.pictures import contact_sheet, png_bytes
from medcyclegan.slicing import AxialOrientationd, AxialSlicesd, PlaneFitd, ScaleToMinusOneOned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume")
    parser.add_argument("out", type=Path)
    parser.add_argument("--modality", choices=["CT", "MR"])
    arguments = parser.parse_args()

    volume = read_volume(arguments.volume)
    tensor = torch.from_numpy(volume.array.astype(np.float32))[None]
    items = {"image": MetaTensor(tensor, affine=torch.from_numpy(volume.affine.copy()))}

    to_plane = Compose(
        [
            ScaleToMinusOneOned("image", modality=volume.modality or arguments.modality),
            AxialOrientationd("image"),
            PlaneFitd("image", size=256, pixel_mm=1.0, cut=False),
        ]
    )
    plane = to_plane(items)
    slices = AxialSlicesd("image", foreground=0.02)(plane)
    print(f"{volume.shape} voxels, {volume.orientation}; plane {tuple(plane['image'].shape)}")
    print(f"kept slices {slices['image_slices']}; scaling {plane['image_scaling']}")
    arguments.out.write_bytes(png_bytes(contact_sheet([slices["image"].numpy()])))

    back = to_plane.inverse(plane)["image"]
    assert np.allclose(back.affine.numpy(), volume.affine)
    inside = np.clip(volume.array, plane["image_scaling"].lower, plane["image_scaling"].upper)
    print(f"back on the original grid: mean absolute difference {np.abs(back[0].numpy() - inside).mean():.3g}")


if __name__ == "__main__":
    main()
