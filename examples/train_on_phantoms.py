"""Train on made heads, T1 and CT of different people: no data is needed, and the truth is known.

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

    # A seed is a person. The two domains show different people: nothing is paired.
    for n in range(arguments.heads):
        write_volume(t1_volume(make_head(n)), volumes / "t1" / f"sub-{n:02d}_T1w.nii.gz")
        write_volume(ct_volume(make_head(500 + n)), volumes / "ct" / f"sub-{500 + n}_ct.nii.gz")

    config = load_config(arguments.config)
    result = slice_volumes(volumes, slices, config=config)
    for row in load_manifest(slices):
        print(f"{row.domain}: {len(row.slices)} slices, {row.split}, values from {row.scaling['lower']:.0f} "
              f"to {row.scaling['upper']:.0f} {row.scaling['unit']}")  # fmt: skip
    assert not result.refused

    # ct is A and t1 is B, by the alphabet; the model holds both ways.
    run = train(slices, config=config, out=arguments.workspace / "runs")
    print(f"the model: {run / 'model'}")
    print(f"pictures of how it learnt: {run / 'panels'}")


if __name__ == "__main__":
    main()
