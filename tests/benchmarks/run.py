"""Every benchmark, one after the other: what ``make bench`` prints. Name some to run those alone.

python tests/benchmarks/run.py [training_step translation dicom_speed ...]
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: Parts of other benchmarks, or too long for every day: run them by name.
_BY_NAME_ONLY = {
    "ablation",
    "reference_step",
    "run",
    "dicom_fuzz",
    "dicom_orthanc",
    "orthanc",
    "uncertainty",
    "cohort",
}


def main() -> int:
    names = sys.argv[1:] or sorted(p.stem for p in HERE.glob("*.py") if p.stem not in _BY_NAME_ONLY)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
