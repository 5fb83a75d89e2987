"""Scripts in what pages are made of: tables, sidecars, runs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

from reliability.attacks import Case, Prepare
from reliability.sandbox import Outcome

#: Closes any element that it is in, and runs if a page takes it as it is.
SCRIPT = '</script></style>"><script>alert("EXECUTED")</script><img src=x onerror=alert(1)>'
_ESCAPED = r"(&lt;|\\u003c)script(&gt;|\\u003e)alert"


def cases() -> list[Case]:
    """Return the cases."""
    return [
        Case("script in a table, CSV", _table("table.csv"), kind="done", seen=_page_escapes),
        Case("script in a table, JSON", _table("table.json"), kind="done", seen=_page_escapes),
        Case("script in a sidecar", _sidecar_script, kind="done", seen=_page_escapes),
        Case("script in a run", _run_script, kind="done", seen=_page_escapes),
    ]


def _table(name: str) -> Prepare:
    """Name the case of a table that ``evaluate`` wrote by a script."""

    def prepare(folder: Path) -> list[str]:
        table = folder / name
        if table.suffix == ".json":
            record = json.loads(table.read_text("utf-8"))
            record["cases"][0]["case"] = SCRIPT
            table.write_text(json.dumps(record), "utf-8")
        else:
            rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
            rows[0]["case"] = SCRIPT
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return ["report", name, "--names"]

    return prepare


def _sidecar_script(folder: Path) -> list[str]:
    """Put a script into every text of a translation's sidecar."""
    record = json.loads((folder / "done.json").read_text("utf-8"))

    def spoil(value: object) -> object:
        if isinstance(value, dict):
            return {key: inner if key == "made_by" else spoil(inner) for key, inner in value.items()}
        return (
            [spoil(inner) for inner in value]
            if isinstance(value, list)
            else SCRIPT
            if isinstance(value, str)
            else value
        )

    record["quality"] |= {"verdict": "check", "reasons": ["a reason"]}
    (folder / "done.json").write_text(json.dumps(spoil(record)), "utf-8")
    return ["report", "done.nii.gz"]


def _run_script(folder: Path) -> list[str]:
    """Put a script into what a run's page shows of its configuration and its warnings."""
    run_folder = folder / "runs" / "latest"
    record = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps({**record, "device": SCRIPT, "warnings": [SCRIPT]}))
    return ["report", "runs/latest", "--out", "page.html"]


def _page_escapes(folder: Path, _: Outcome) -> bool:
    """Whether a page shows the script, as text."""
    pages = [path.read_text("utf-8") for path in folder.glob("*.html")]
    return any(re.search(_ESCAPED, page) for page in pages)
