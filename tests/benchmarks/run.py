"""The benchmarks of speed, one after the other: what ``make bench`` prints. Name others to run those instead.

python tests/benchmarks/run.py [NAME ...]        (without .py; each must run without arguments)

The exit code is 1 if one fails, or misses a floor that it states.
"""

import subprocess
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
#: The benchmarks that need neither scans nor label maps, and whose figures are speeds, times or memory.
SPEED = ("speed", "dicom_speed", "translation", "training_step", "training_batches", "scaling")
#: Further ones where there is a CUDA device; on a CPU they take too long.
ON_CUDA = ("translation_device",)


def main(names: list[str]) -> int:
    known = {path.stem for path in HERE.glob("*.py")}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}: name files of {HERE.name}/ without .py", file=sys.stderr)
        return 2
    failed = []
    for name in names or (SPEED + ON_CUDA if torch.cuda.is_available() else SPEED):
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
