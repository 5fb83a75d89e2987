"""Train T1 to T2 and back on real subjects, coarse to fine, and score both ways on one whom no training slice shows.

    python examples/real_heads.py DATA skull|brain OUT [--set training.max_steps=100]

DATA holds the scans of docs/results.md, a folder a subject: openms_patient03/t1.nii.gz and so on. What --set names
holds at every stage.
"""

import argparse
import shutil
from pathlib import Path

import SimpleITK
from real_heads_scores import print_scores, save_picture

from medcyclegan import ModelBundle, read_volume, slice_volumes, train, translate_volume, write_volume
from medcyclegan.config import load_config

#: Who is trained on, every visit, and who is tested on.
SPLITS = {
    "skull": (["openms_patient03", "openms_patient12"], "openms_patient04"),
    "brain": (["openms_mni07", "cstar_stroke_coreg"], "openms_mni19"),
}
#: Pixel size in mm, pixels a side, steps and learning rate of each stage; from the second on, the generators are the
#: stage's before. Large pixels settle the contrast, small ones bring the detail.
STAGES = {
    "skull": [(2.5, 96, 3500, 5e-4), (1.5, 160, 1500, 3e-4)],
    "brain": [(2.0, 96, 2800, 5e-4), (1.5, 128, 1500, 3e-4), (1.0, 192, 1000, 3e-4)],
}


def train_stages(volumes: Path, split: str, out: Path, settings: list[str]) -> Path:
    """Slice and train stage by stage, each in a folder of ``out`` of its own; return the last model's."""
    model = None
    for number, (pixel_mm, size, steps, rate) in enumerate(STAGES[split]):
        stage = [f"slicing.pixel_mm={pixel_mm}", f"slicing.size={size}"]
        stage += [f"training.max_steps={steps}", f"training.learning_rate={rate}"]
        config = load_config(Path(__file__).with_name("real_heads.yaml"), [*stage, *settings])
        folder = out / f"stage{number + 1}"
        slice_volumes(volumes, folder / "slices", config=config)
        model = train(folder / "slices", config=config, out=folder / "runs", init_from=model) / "model"
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="score this one, and train none")
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

    # One frame of the scanner, two grids: the T2 is laid onto the T1's.
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
