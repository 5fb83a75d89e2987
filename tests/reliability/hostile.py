"""Inputs made to do harm: nothing of them is executed, nothing is written outside the output, nothing hangs.

``python tests/reliability/torture.py hostile``. Every case runs as a process in a folder of its own; whatever
else changes around that folder counts as an escape, and a file named EXECUTED as an execution.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from reliability import hostile_images, planted
from reliability.sandbox import Limits, Outcome, Row, run
from reliability.workspace import AFFINE, GRID, edit_record, make_workspace
from support import dicom_phantoms as made
from support.phantoms import head_ct

#: No refusal may take more than this, nor more memory: the package itself has some 400 MB.
LIMITS = Limits(seconds=90.0)
MOST_MB = 1600.0
Case = tuple[str, Callable[[Path], list[str]]]
_TRANSLATE = ["translate-volume", "in.nii.gz", "out.nii.gz", "--model", "model", "--to", "mr"]
_NEW = ["translate-volume", "evil", "out.nii.gz", "--model", "model", "--to", "mr", "--force"]
_TRAIN = ["train", "--config", "config.yaml", "--slices", "made", "--max-steps", "2"]
_SLICE = ["slice-volumes", "--config", "config.yaml"]


class Payload:
    """What runs when a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch EXECUTED; touch ../EXECUTED",)


def _model(*change: object) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        edit_record(folder / "model", *change)
        return _TRANSLATE

    return prepare


def _model_file(name: str, content: bytes) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "model" / name).write_bytes(content)
        edit_record(folder / "model", "weights", name.split(".")[0], "sha256", hashlib.sha256(content).hexdigest())
        return _TRANSLATE

    return prepare


def _replaced(path: str, make: Callable[[Path], None], arguments: list[str]) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        file = folder / path
        if file.is_dir() and not file.is_symlink():
            file.rename(folder.parent / "outside" / file.name)
        else:
            file.unlink(missing_ok=True)
        make(file)
        return arguments

    return prepare


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _checkpoint(make: Callable[[dict[str, object]], bytes]) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        run_folder = folder / "runs" / "latest"
        newest = max(run_folder.glob("checkpoints/*.pt"))
        content = make(torch.load(newest, weights_only=True))
        newest.write_bytes(content)
        newest.with_name(newest.name + ".sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  x\n")
        record = json.loads((run_folder / "run.json").read_text())
        (run_folder / "run.json").write_text(json.dumps({**record, "state": "stopped", "slices": "../../made"}))
        return ["train", "--resume"]

    return prepare


def _saved(state: object) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def _deflated(state: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(_saved(state))) as plain,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
        packed.writestr("archive/data/999", bytes(1 << 28))
    return stream.getvalue()


def _row(**changes: object) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        file = folder / "made" / "manifest.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[0] |= changes
        shutil.copy(next((folder / "made").glob("*/*.npy")), folder / "made" / f"{rows[0]['case']}.npy")
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return _TRAIN

    return prepare


def _stack(make: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        stack = min((folder / "made" / "ct").glob("*.npy"))
        shutil.move(stack, folder.parent / "outside" / "stack.npy")
        make(stack)
        return _TRAIN

    return prepare


def _object_array(path: Path) -> None:
    np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)


def _yaml(text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "config.yaml").write_text(text, "utf-8")
        return _TRAIN

    return prepare


def _run_yaml(folder: Path) -> list[str]:
    arguments = _checkpoint(_saved)(folder)
    (folder / "runs" / "latest" / "config.yaml").write_text("seed: !!python/object/apply:os.system ['touch EXECUTED']")
    return arguments


def _file(name: str, content: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_bytes(content())
        return [_NEW[0], name, "out.png" if name.endswith(".png") else "out.nii.gz", *_NEW[3:]]

    return prepare


def _dicom(value: str | bytes, output: str) -> Callable[[Path], list[str]]:
    """Put a value into every text element of a series, as the bytes they are."""

    def prepare(folder: Path) -> list[str]:
        slices = made.slices_of(head_ct(GRID, AFFINE))
        mark = b"QZMARK7"
        for dataset in slices:
            keep = {key: dataset[key].value for key in ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID")}
            planted.plant(dataset)
            for key, uid in keep.items():
                setattr(dataset, key, uid)
            dataset.PatientPosition = "HFS"
        raw = value if isinstance(value, bytes) else value.encode()
        for path in made.save(slices, folder / "evil"):
            _put(path, mark, raw)
        return [_NEW[0], "evil", output, *_NEW[3:]]

    return prepare


def _put(path: Path, mark: bytes, value: bytes) -> None:
    """Replace texts that begin with ``mark`` by ``value``, lengths corrected, in an explicit little-endian file."""
    data, out, place = path.read_bytes(), bytearray(), 0
    while (found := data.find(mark, place)) >= 0:
        size = int.from_bytes(data[found - 2 : found], "little")
        short = data[found - 4 : found - 2].isalpha() and data[found - 4 : found - 2].isupper()
        if short and size >= len(mark) and b"NESTED" not in data[found : found + size] and data[found - 8] != 0x29:
            new = value + b" " * (len(value) % 2)
            out += data[place : found - 2] + len(new).to_bytes(2, "little") + new
            place = found + size
        else:
            out += data[place : found + len(mark)]
            place = found + len(mark)
    path.write_bytes(bytes(out) + data[place:])


def _preamble(folder: Path) -> list[str]:
    for path in made.save(made.slices_of(head_ct(GRID, AFFINE)), folder / "evil"):
        elf = b"#!/bin/sh\ntouch EXECUTED\nexit\n".ljust(128, b"\0")
        path.write_bytes(elf + path.read_bytes()[128:])
        path.chmod(0o755)
    return [_NEW[0], "evil", "mr", *_NEW[3:]]


def _deflated_series(folder: Path) -> list[str]:
    paths = made.save(made.slices_of(head_ct(GRID, AFFINE)), folder / "evil")
    for path in paths:
        data = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
        start = data.index(b"\x08\x00\x08\x00")
        engine = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = engine.compress(data[start:]) + b"".join(engine.compress(bytes(1 << 24)) for _ in range(80))
        path.write_bytes(data[:start] + body + engine.flush())
    return _NEW


def _odd_names(folder: Path) -> list[str]:
    source = folder / "volumes" / "ct" / "p0.nii.gz"
    names = [
        "a\nb",
        "\x1b[2J\x07",
        "😀" * 50,
        "a" * 240,
        "-rf",
        "$(touch EXECUTED)",
        "`touch EXECUTED`;",
        "..",
        "% s %d {x}",
    ]
    for name in names:
        shutil.copy(source, folder / "volumes" / "ct" / f"{name}.nii.gz")
    shutil.copy(source, os.fsencode(folder / "volumes" / "ct") + b"/\xff\xfe.nii.gz")
    return _SLICE


def _pipes(folder: Path) -> list[str]:
    os.mkfifo(folder / "volumes" / "ct" / "pipe.nii.gz")
    (folder / "volumes" / "ct" / "zero.nii").symlink_to("/dev/zero")
    return _SLICE


def _web(folder: Path) -> list[str]:
    """Folders that all link to each other, to their parent, and 300 one below the other."""
    top = folder / "volumes" / "ct"
    for one in range(9):
        (top / f"d{one}").mkdir()
        for other in range(9):
            (top / f"d{one}" / f"l{other}").symlink_to(f"../d{other}")
    (top / "loop").symlink_to("..")
    subprocess.run(["mkdir", "-p", "/".join(["d"] * 300)], cwd=top, check=True)
    return _SLICE


def _named_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "evil.nii.gz")
    return [_NEW[0], "evil.nii.gz", *_NEW[2:]]


def _split_file(text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "split.csv").write_text(text, "utf-8")
        return [*_SLICE, "--split-file", "split.csv", "--out", "other"]

    return prepare


def _page(folder: Path) -> list[str]:
    """A table whose cases carry a script: the page must show it as text."""
    rows = "".join(f'</script><script>alert("EXECUTED{n}")</script>,mae,{n}.0\n' for n in range(3))
    (folder / "table.csv").write_text("case,metric,value\n" + rows, "utf-8")
    return ["report", "table.csv", "--names"]


def _header(shape: tuple[int, int, int]) -> Callable[[], bytes]:
    def content() -> bytes:
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_data_dtype(np.int16)
        header.set_sform(np.eye(4), 1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        return bytes(header.binaryblock) + bytes(1000)

    return content


def cases() -> list[Case]:
    """Return every case: its name, and what makes it and returns the command."""
    texts = {
        "../../x": "../../x", "NUL": b"a\0b", "300 characters": "x" * 300, "emoji": "😀🧠",
        "control": b"\x1b[2J\x07\x9b", "template": "{{7*7}}${x}%s", "markup": "<script>alert(1)</script>",
    }  # fmt: skip
    names = ("../../x", "/etc/x", "..", "a\0b", "x" * 300, "<script>", "-rf", "\x1b[2J", "")
    values: list[tuple[object, ...]] = [
        ("preparation", "size", 10**9), ("preparation", "size", -4), ("preparation", "size", "x"),
        ("preparation", "pixel_mm", 1e-9), ("preparation", "pixel_mm", 0), ("preparation", "pixel_mm", -1),
        ("preparation", "pixel_mm", float("nan")), ("preparation", "fit", ["a"]), ("generator", "filters", 10**9),
        ("generator", "blocks", 10**9), ("generator", "kind", "os.system"), ("domains", "B", "scaling", "upper", 1e308),
        ("domains", "B", "scaling", "unit", {"a": 1}), ("weights", "G_AB", "file", "../../x"), ("provenance", [1]),
    ]  # fmt: skip
    found: list[Case] = [(f"model.json {path[-2]} = {str(path[-1])[:20]}", _model(*path)) for path in values]
    found += [(f"model.json name {name[:12]!r}", _model("domains", "B", "name", name)) for name in names]
    found += [(f"DICOM {name}, {kind} out", _dicom(text, out)) for name, text in texts.items()
              for kind, out in (("DICOM", "mr"), ("NIfTI", "out.nii.gz"))]  # fmt: skip
    found += [
        ("model.json of deep lists", _replaced("model/model.json", _deep_lists, _TRANSLATE)),
        ("model.json a pipe", _replaced("model/model.json", os.mkfifo, _TRANSLATE)),
        ("model.json a link out", _replaced("model/model.json", _link("../../outside/model.json"), _TRANSLATE)),
        ("weights a pickle", _model_file("G_AB.safetensors", pickle.dumps(Payload()))),
        ("weights a torch pickle", _model_file("G_AB.safetensors", _saved(Payload()))),
        ("weights of a huge header", _model_file("G_AB.safetensors", b"\xff" * 7 + b"\x7f" + b"{}")),
        ("weights a pipe", _replaced("model/G_AB.safetensors", os.mkfifo, _TRANSLATE)),
        ("weights a link out", _replaced("model/G_AB.safetensors", _link("../../outside/x"), _TRANSLATE)),
        ("checkpoint a pickle", _checkpoint(lambda state: pickle.dumps(Payload()))),
        ("checkpoint a torch pickle", _checkpoint(lambda state: _saved({**state, "metrics": Payload()}))),
        ("checkpoint a list", _checkpoint(lambda state: _saved([1, 2]))),
        ("checkpoint of other networks", _checkpoint(lambda state: _saved({**state, "networks": {}}))),
        ("checkpoint a zip bomb", _checkpoint(_deflated)),
        ("run's configuration with a tag", _run_yaml),
        ("row of the domain /", _row(domain="/", file="/x.npy")),
        ("row of the domain ..", _row(domain="..", file="../x.npy")),
        ("row of a file elsewhere", _row(file="../../outside/x.npy")),
        ("row of a path as case", _row(case="../../outside/x")),
        ("stack with objects", _stack(_object_array)),
        ("stack a zip", _stack(lambda p: np.savez(p.open("wb"), a=np.zeros(3)))),
        ("stack a link out", _stack(_link("../../../outside/stack.npy"))),
        ("domain a link out", _replaced("made/ct", _link("../../outside/ct"), _TRAIN)),
        ("store's domain a link out", _replaced("slices", lambda p: linked_store(p), _SLICE)),
        ("YAML tag apply", _yaml("seed: !!python/object/apply:os.system ['touch EXECUTED']")),
        ("YAML tag new", _yaml("seed: !!python/object/new:os.system ['touch EXECUTED']")),
        ("YAML tag module", _yaml("a: !!python/module:antigravity")),
        ("YAML bomb", _yaml("a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(99)))),
        ("YAML of 50,000 keys", _yaml("".join(f"k{i}: 1\n" for i in range(50_000)))),
        ("YAML long number", _yaml("seed: 1" + ":1" * 40_000)),
        ("YAML hexadecimal", _yaml("seed: 0x" + "f" * 90_000)),
        ("YAML deep", _yaml("[" * 90_000)),
        ("--set deep", lambda folder: ["train", "--set", "seed=" + "[" * 9000]),
        ("DICOM preamble a script", _preamble),
        ("DICOM deflate bomb", _deflated_series),
        ("split file of one long field", _split_file("case,patient,split\n" + "x" * 300_000 + ",p,train\n")),
        ("split file with NUL", _split_file("case,patient,split\n\0,p,train\n")),
        ("names of files", _odd_names),
        ("pipes and devices among volumes", _pipes),
        ("a pipe as input", _named_pipe),
        ("links in circles, deep folders", _web),
        ("output name of 300 characters", lambda folder: [*_NEW[:1], "in.nii.gz", "o" * 300 + ".nii.gz", *_NEW[3:]]),
        ("script in a table", _page),
        ("NIfTI of 30000^3", _file("evil.nii", _header((30000, 30000, 30000)))),
    ]  # fmt: skip
    return found + [(name, _file(*entry)) for name, entry in hostile_images.FILES.items()]


def _deep_lists(path: Path) -> None:
    path.write_text("[" * 10**6)


def linked_store(path: Path) -> None:
    """Begin a store whose domain is a link to elsewhere."""
    path.mkdir()
    shutil.copy(path.parent / "made" / ".key", path / ".key")
    (path / "ct").symlink_to("../../outside")


def prepare(root: Path) -> Path:
    """Make what every case begins with a copy of: a workspace with a store and a finished run."""
    folder = make_workspace(root / "base")
    for arguments in (
        [*_SLICE, "--out", "made"],
        ["train", "--config", "config.yaml", "--slices", "made", "--set", "training.max_steps=8"],
    ):
        outcome = run(arguments, folder)
        assert outcome.kind == "done", outcome.err
    return folder


def attack(case: Case, base: Path, root: Path) -> tuple[Outcome, list[str]]:
    """Run one case; return what came of it and what was wrong."""
    name, make = case
    place = root / "case"
    subprocess.run(["rm", "-rf", str(place)], check=True)  # Python 3.11's own way fails in folders this deep
    (place / "outside" / "deep").mkdir(parents=True)
    shutil.copytree(base, place / "inside", symlinks=True)
    arguments = make(place / "inside")
    before = {path for path in _listing(root) if not path.startswith(f"{place}/inside/")}
    outcome = run(arguments, place / "inside", LIMITS)
    wrong = []
    if outcome.kind not in ("done", "refused"):
        wrong.append(f"{name}: {outcome.kind}: {outcome.err.strip()[-400:]}")
    if any("/EXECUTED" in path for path in _listing(root)):
        wrong.append(f"{name}: executed")
    after = {path for path in _listing(root) if not path.startswith(f"{place}/inside/")}
    if after != before:
        wrong.append(f"{name}: written outside: {sorted(after ^ before)[:3]}")
    if outcome.peak_mb > MOST_MB:
        wrong.append(f"{name}: {outcome.peak_mb:.0f} MB")
    if any(ord(char) < 32 and char != "\n" for char in outcome.err.replace("\r", "")):
        wrong.append(f"{name}: control characters on the terminal")
    pages = [path.read_text("utf-8", "replace") for path in (place / "inside").glob("*.html")]
    if any("<script>alert(" in page for page in pages):
        wrong.append(f"{name}: a script in the page")
    subprocess.run(["rm", "-rf", str(place)], check=True)
    return outcome, wrong


def _listing(root: Path) -> set[str]:
    """Return every path below ``root``; links are not followed."""
    found, folders = set(), [str(root)]
    while folders:
        for entry in os.scandir(folders.pop()):
            found.add(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
    return found


def measure(part: str = "") -> Row:
    """Return the row of the table for all cases, or those with ``part`` in their name."""
    chosen = [case for case in cases() if part in case[0]]
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    slowest, largest = 0.0, 0.0
    with tempfile.TemporaryDirectory() as root:
        base = prepare(Path(root))
        for case in chosen:
            outcome, faults = attack(case, base, Path(root))
            kinds[outcome.kind] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.peak_mb)
            wrong += faults
            print(f"  {case[0]:44} {outcome.kind:9} {outcome.seconds:5.1f} s {outcome.peak_mb:5.0f} MB", flush=True)
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    figure = f"{len(chosen)} cases: {said}; {len(wrong)} executed, escaped, hung or failed; slowest {slowest:.0f} s, "
    return Row("hostile", f"{figure}largest {largest:.0f} MB", wrong)
