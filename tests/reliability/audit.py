"""What ``make audit`` runs: known holes of the pinned versions, and a bill of materials in ``build/sbom.json``.

pip-audit and cyclonedx-py are installed into an environment of their own, for they are no part of the project; both
package index, pip-audit its answers about vulnerabilities too. Where none can be asked, that is said: exit code 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_BUILD = _ROOT / "build"
#: Some 90 pins, each asked for once.
_LONGEST_S = 180
_TOOLS = ("pip-audit==2.10.1", "cyclonedx-bom==7.5.0")


def main() -> int:
    """Audit the pins; return 1 where something is known of one of them, or where nobody could be asked."""
    tools = _BUILD / "audit"
    python = tools / "bin" / "python"
    if not python.exists():
        venv.create(tools, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_TOOLS]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"audit: pip-audit and cyclonedx-bom cannot be installed ({_last(done.stderr)}): an index is needed")
        return 1
    return max(_write_bill(python.parent), _ask(python.parent))


def _write_bill(tools: Path) -> int:
    """Write the bill of materials of this environment."""
    file = _BUILD / "sbom.json"
    command = [str(tools / "cyclonedx-py"), "environment", sys.executable, "--output-reproducible", "-o", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"bill of materials: {file}" if not done.returncode else f"bill of materials: {_last(done.stderr)}")
    return done.returncode


def _ask(tools: Path) -> int:
    """Ask what is known of the pinned versions."""
    pins = str(_ROOT / "constraints.txt")
    command = [str(tools / "pip-audit"), "--requirement", pins, "--no-deps", "--disable-pip", "--timeout", "10"]
    try:
        done = subprocess.run(
            [*command, "--progress-spinner", "off", "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"audit: no index of vulnerabilities answered within {_LONGEST_S} s: nothing is known of the pins")
        return 1
    except (ValueError, KeyError):
        print(f"audit: no index of vulnerabilities can be asked from here ({_last(done.stderr)})")
        return 1
    # pip-audit itself says "No known vulnerabilities found" and ends with 0 where it could ask about nothing.
    unknown = [entry["name"] for entry in found if "skip_reason" in entry]
    holes = [(entry, hole) for entry in found for hole in entry.get("vulns", ())]
    for entry, hole in holes:
        print(
            f"{entry['name']} {entry['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        )
    print(f"audit: {len(found)} pins, {len(found) - len(unknown)} known to the index, {len(holes)} known holes")
    if unknown:
        print(f"audit: the index that can be asked from here does not know {len(unknown)}, such as {unknown[0]}")
    return int(bool(unknown or holes))


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


if __name__ == "__main__":
    sys.exit(main())
