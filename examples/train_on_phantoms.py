"""Train on synthetic heads, T1 and CT of different subjects, for which no data is needed and the truth is known.

    python examples/train_on_phantoms.py WORKSPACE [--config demo] [--heads 6]

``--config smoke`` takes seconds and learns nothing; ``demo`` takes minutes on a CPU.
"""

import argparse
from pathlib import Path

from medcyclegan import slice_volumes, train, write_volume
from medcyclegan.config import load_config
from medcyclegan.manifest import load_manifest
from medcyclegan.phantom import ct_volume, make_head, t1_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--heads", type=int, default=6)
    arguments = parser.parse_args()
    volumes, slices = arguments.workspace / "volumes", arguments.workspace / "slices"

    # Each seed is a subject. The two domains contain different subjects, so there are no pairs.
    for n in range(arguments.heads):
        write_volume(t1_volume(make_head(n)), volumes / "t1" / f"sub-{n:02d}_T1w.nii.gz")
        write_volume(ct_volume(make_head(500 + n)), volumes / "ct" / f"sub-{500 + n}_ct.nii.gz")

    config = load_config(arguments.config)
    result = slice_volumes(volumes, slices, config=config)
    for row in load_manifest(slices):
        print(f"{row.domain}: {len(row.slices)} slices, {row.split}, values from {row.scaling['lower']:.0f} "
              f"to {row.scaling['upper']:.0f} {row.scaling['unit']}")  # fmt: skip
    assert not result.refused

    # In alphabetical order, ct is A and t1 is B; the model contains both directions.
    run = train(slices, config=config, out=arguments.workspace / "runs")
    print(f"model: {run / 'model'}")
    print(f"pictures of the progress: {run / 'panels'}")


if __name__ == "__main__":
    main()
