"""Train T1 to T2 and back on real subjects, coarse to fine, and score both directions on a held-out subject.

    python examples/real_heads.py DATA skull|brain|skull-fresh|brain-fresh OUT [--set training.max_steps=100]

DATA contains the scans of docs/results.md, in one folder per subject: openms_patient03/t1.nii.gz etc. Values of --set
apply to all stages. The settings were chosen by the scores of skull and brain; skull-fresh and brain-fresh score a
subject whose scores were not used to choose anything.
"""

import argparse
import shutil
from pathlib import Path

import SimpleITK
from real_heads_scores import print_scores, save_picture
from real_heads_stages import SPLITS, train_stages

from medcyclegan import ModelBundle, read_volume, translate_volume, write_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="score this model instead of training one")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    data, out = arguments.data, arguments.out
    people, unseen = SPLITS[arguments.split]

    out.mkdir(parents=True)
    for person in people:
        for scan in sorted(data.glob(f"{person}/t[12]*.nii.gz")):
            target = out / "volumes" / scan.name[:2] / f"sub-{person.replace('_', '')}" / scan.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(scan, target)
    model = arguments.model or train_stages(out / "volumes", arguments.split, out, arguments.set)
    bundle = ModelBundle.load(model)

    # The scans share the scanner's coordinates, but not their grids: resample the T2 to the grid of the T1.
    t1, t2 = (SimpleITK.ReadImage(data / unseen / f"t{n}.nii.gz", SimpleITK.sitkFloat32) for n in (1, 2))
    for name, image in (("t1", t1), ("t2", SimpleITK.Resample(t2, t1))):
        SimpleITK.WriteImage(image, out / f"unseen_{name}.nii.gz")
    real = {name: read_volume(out / f"unseen_{name}.nii.gz") for name in ("t1", "t2")}
    fakes = {name: translate_volume(real[other], bundle, to=name) for name, other in (("t2", "t1"), ("t1", "t2"))}
    for name, fake in fakes.items():
        write_volume(fake, out / f"fake_{name}.nii.gz")
    print_scores(real, fakes)
    save_picture(real, fakes, out / "heads.png")


if __name__ == "__main__":
    main()
