"""A marker in every text, date, time, age, UID and file name of the inputs: where does it come out?

``python tests/reliability/torture.py privacy``. Every byte of every output is searched, unpacked where
it is packed. DICOM out keeps its patient, as it must, unless ``--deidentify`` is passed. What a command says on the
terminal may name the files it was given, and a refusal the faulty value; the store's own list of refusals may not.
A study's ledger names the refused cases, and its owner alone may read it (SECURITY.md, "What may appear where").
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from reliability import planted
from reliability.sandbox import Row, run
from reliability.workspace import AFFINE, CONFIG, GRID
from support.models import tiny_model
from support.phantoms import head_ct, head_mr

PIPELINES = Path(__file__).parents[2] / "pipelines"
_NAME, _ALL = planted.IN_NAMES, (planted.IN_NAMES, *planted.IN_HEADERS)


def prepare(root: Path) -> tuple[Path, int]:
    """Make inputs with the marker in everything, apart from the folder that outputs go to; return marked elements."""
    inputs, marked = root / f"in-{_NAME}", 0
    for number in range(3):
        patient = inputs / "volumes" / "ct" / f"{_NAME}^JANE-{number}"
        marked = planted.write_series(head_ct(GRID, AFFINE, seed=number), patient / f"{_NAME} study", str(number + 1))
        planted.write_nifti(head_mr(GRID, AFFINE, seed=number), inputs / "volumes" / "mr" / f"{_NAME}_{number}.nii.gz")
    planted.write_nifti(head_ct(GRID, AFFINE), inputs / f"{_NAME}.nii.gz")
    work = root / "work"
    work.mkdir()
    (work / "config.yaml").write_text(CONFIG, "utf-8")
    tiny_model().save(work / "other-model")
    return work, marked


def commands(inputs: Path) -> list[list[str]]:
    """Return every command that takes inputs in, or makes something of what came of them."""
    series = str(inputs / "volumes" / "ct" / f"{_NAME}^JANE-0" / f"{_NAME} study")
    volume = str(inputs / f"{_NAME}.nii.gz")
    model = ["--model", "other-model", "--to", "mr"]
    return [
        ["slice-volumes", str(inputs / "volumes"), "--config", "config.yaml"],
        ["train", "--config", "config.yaml"],
        [
            "translate-volume",
            series,
            "from-dicom.nii.gz",
            *model,
            "--uncertainty",
            "uncertainty.nii.gz",
            "--preview",
            "look.png",
        ],
        ["translate-volume", volume, "from-nifti.nii.gz", *model, "--force"],
        ["translate-volume", volume, "from-nifti.mha", *model, "--force"],
        ["translate-volume", series, "anonymous", *model, "--deidentify"],
        ["export", "--format", "onnx", "--model", "other-model", "--compare", series],
        ["export", "--format", "monai-bundle", "--model", "runs/latest/model"],
        ["report", "runs/latest"],
        ["report", "from-dicom.nii.gz", "--input", series, "--out", "page.html"],
        ["evaluate", "from-dicom.nii.gz", "uncertainty.nii.gz", "--out", "scores.csv"],
    ]


def _refused(root: Path, work: Path) -> tuple[int, list[str]]:
    """Break series in a dozen ways, slice them, and check what is logged and stored about the refusals."""
    folder = _broken(root / f"broken-{_NAME}" / "ct")
    outcome = run(["slice-volumes", str(folder.parent), "--config", "config.yaml", "--out", "refusals"], work)
    kept = (work / "refusals" / "refused.jsonl").read_text("utf-8")
    wrong = [f"refused.jsonl: {line[:300]}" for line in kept.splitlines() if any(mark in line for mark in _ALL)]
    if outcome.kind != "refused":
        wrong.append(f"broken series: {outcome.kind}")
    return len(kept.splitlines()), wrong


def _broken(folder: Path) -> Path:
    """Write marked series into ``folder`` that are broken in a dozen ways; return it."""
    for number, breaks in enumerate(_FAULTS):
        place = folder / f"{_NAME}-{number}"
        planted.write_series(head_ct(GRID, AFFINE), place, f"9{number}")
        breaks(sorted(place.iterdir()))
    return folder


def study(root: Path, work: Path) -> tuple[int, list[str]]:
    """Prepare a study of broken and whole volumes, translate it; return the cases in its ledgers, and what was wrong.

    Names of inputs may be in ledgers, which only the owner can read, and in what BIDS wants of translations: the file
    that each was made from. Translations of DICOM series are named by counters.
    """
    place = root / "study"
    broken = _broken(place / "trees" / "ct")
    planted.write_series(head_ct(GRID, AFFINE), broken / f"{_NAME}-whole", "99")
    planted.write_nifti(head_mr(GRID, AFFINE), place / "trees" / "mr" / f"{_NAME}.nii.gz")
    made, derived = place / "made", place / "derived"
    domains = ["--domain", "ct", broken, "--domain", "mr", place / "trees" / "mr"]
    wrong = _run("prepare_cohort.py", made, *domains, "--config", work / "config.yaml", folder=place)
    wrong += _run("translate_cohort.py", broken, derived, "--model", work / "other-model", "--to", "mr", folder=place)
    cases = []
    for ledger, tree in ((made / "ledger.jsonl", broken.parent), (derived / "ledger.jsonl", broken)):
        if stat.S_IMODE(ledger.stat().st_mode) != 0o600:
            wrong.append(f"{ledger.parent.name}/{ledger.name} can be read by others")
        own = [json.loads(line)["case"] for line in ledger.read_text("utf-8").splitlines()]
        wrong += [f"{case} of a ledger is not found" for case in own if not (tree / case.partition("#")[0]).exists()]
        cases += own
    refused = (made / "slices" / "refused.jsonl").read_text("utf-8").splitlines()
    if sum(case.startswith("ct/") for case in cases) != len(refused):
        wrong.append(f"a ledger names {cases}, of {len(refused)} refused")
    if not list(derived.glob("sub-*/anat/*.nii.gz")):
        wrong.append("no volume of the study was translated")
    kept = [hit for hit in planted.find(made, _ALL) if not hit.startswith("ledger.jsonl")]
    translated = re.compile(r"sub-\d+/anat/sub-\d+_desc-synthetic_MRI\.json: |ledger.jsonl")
    kept += [hit for hit in planted.find(derived, _ALL) if not translated.match(hit)]
    return len(cases), wrong + [f"a study holds {hit}" for hit in kept]


def _run(script: str, *words: object, folder: Path) -> list[str]:
    """Run a pipeline over a cohort in which some volumes are refused; return what was wrong."""
    command = [sys.executable, str(PIPELINES / script), *map(str, words)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    right = ended.returncode == 1 and "Traceback" not in ended.stderr
    return [] if right else [f"{script}: exit {ended.returncode}: {ended.stderr.strip()[-300:]}"]


def _edit(change: dict[str, object], which: slice = slice(0, 2)) -> object:
    import pydicom

    def apply(paths: list[Path]) -> None:
        for path in paths[which]:
            dataset = pydicom.dcmread(path)
            for keyword, value in change.items():
                if value == "QZMARK7":  # in the place of a number, too
                    dataset.add_new(keyword, "LO", value)
                else:
                    setattr(dataset, keyword, value)
            dataset.save_as(path)

    return apply


_FAULTS = [
    lambda paths: paths[3].unlink(),
    lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:-500]),
    lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:2000]),
    lambda paths: paths[2].write_bytes(paths[2].read_bytes()[:128] + b"XXXX" + paths[2].read_bytes()[132:]),
    lambda paths: shutil.copy(paths[1], paths[1].with_name("copy.dcm")),
    _edit({"SeriesInstanceUID": "1.2.826.0.1.7242427.77"}),
    _edit({"RescaleSlope": "QZMARK7"}),
    _edit({"ImagePositionPatient": ["1", "2", "19031127"]}),
    _edit({"PhotometricInterpretation": "QZMARK7"}),
    _edit({"Modality": "QZMARK7"}),
    _edit({"SOPClassUID": "1.2.826.0.1.7242427.9"}),
    _edit({"PatientID": "QZMARK7 OTHER"}),
    _edit({"EchoTime": "7242427"}),
    _edit({"ImageType": ["ORIGINAL", "PRIMARY", "QZMARK7"]}),
    _edit({"SpecificCharacterSet": "QZMARK7"}),
    _edit({"NumberOfFrames": "QZMARK7"}),
    _edit({"PixelRepresentation": 1}),
]


def said(arguments: list[str], text: str) -> list[str]:
    """Return what a command said of headers; UIDs of series, which a user must choose by, are let pass."""
    return [f"{arguments[0]} says {line[:200]}" for line in text.splitlines()
            if any(mark in line for mark in planted.IN_HEADERS[:4])]  # fmt: skip


def measure() -> Row:
    """Return the row of the table."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        work, marked = prepare(root)
        wrong: list[str] = []
        for arguments in commands(root / f"in-{_NAME}"):
            outcome = run(arguments, work)
            if outcome.kind != "done":
                wrong.append(f"{' '.join(arguments)[:80]}: {outcome.err.strip()[-300:]}")
            wrong += said(arguments, outcome.out + outcome.err)
        refused, leaks = _refused(root, work)
        listed, more = study(root, work)
        wrong += leaks + more + [f"found in {hit}" for hit in planted.find(work, _ALL)]
        files = [path for path in work.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    figure = f"{marked} marked elements a slice and every file name; {len(files)} files of {size / 1e6:.1f} MB out, "
    return Row("privacy", f"{figure}{refused} refusals, {listed} cases in ledgers: {len(wrong)} hits", wrong)
