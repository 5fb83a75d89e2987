"""Is every file under a final name whole, and do the files of one output agree? Nothing of the package's readers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import yaml
from PIL import Image
from safetensors.numpy import load as load_tensors

_PASSED_OVER = {".lock", ".key", ""}


def faults(folder: Path) -> list[str]:
    """Return what is wrong with the files below ``folder``; temporary names and folders are nobody's output."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_symlink() or not path.is_file() or any(part.startswith(".tmp-") for part in parts):
            continue
        try:
            _check(path)
        except Exception as error:  # any error of a reader means that the file is not intact
            found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    for record in folder.rglob("model.json"):
        if not any(part.startswith(".tmp-") for part in record.relative_to(folder).parts):
            found += _model_faults(record)
    for manifest in folder.rglob("manifest.jsonl"):
        found += _store_faults(manifest)
    return found


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files and folders below ``folder``, the outermost of each."""
    return [path for path in folder.rglob(".tmp-*") if not any(p.name.startswith(".tmp-") for p in path.parents)]


def _check(path: Path) -> None:
    data = path.read_bytes()
    name = path.name
    if name.endswith(".gz"):
        _check_nifti(gzip.decompress(data))
    elif name.endswith(".nii"):
        _check_nifti(data)
    elif name.endswith((".json", ".html", ".yaml")):
        _check_text(name, data.decode())
    elif name.endswith(".jsonl"):
        lines = data.decode().splitlines()
        whole = lines if data.endswith(b"\n") or name == "manifest.jsonl" else lines[:-1]  # metrics grow line by line
        [json.loads(line) for line in whole]
    elif name.endswith(".npy"):
        np.load(io.BytesIO(data), allow_pickle=False)
    elif name.endswith(".png"):
        Image.open(io.BytesIO(data)).load()
    elif name.endswith(".safetensors"):
        load_tensors(data)
    elif name.endswith(".dcm"):
        _ = pydicom.dcmread(io.BytesIO(data)).pixel_array
    elif name.endswith(".pt"):
        _check_checkpoint(path, data)


def _check_text(name: str, text: str) -> None:
    if name.endswith(".json"):
        json.loads(text)
    elif name.endswith(".yaml"):
        yaml.safe_load(text)
    elif not text.rstrip().endswith("</html>"):
        raise ValueError("no end of the page")


def _check_nifti(data: bytes) -> None:
    dims = np.frombuffer(data[40:56], "<i2")
    expected = 352 + int(np.prod(dims[1 : dims[0] + 1])) * int(np.frombuffer(data[72:74], "<i2")[0]) // 8
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes, not {expected}")


def _check_checkpoint(path: Path, data: bytes) -> None:
    sums = path.with_name(path.name + ".sha256")
    if zipfile.ZipFile(io.BytesIO(data)).testzip() is not None:
        raise ValueError("a part's CRC is wrong")
    if sums.exists() and sums.read_text().split()[0] != hashlib.sha256(data).hexdigest():
        raise ValueError("not the file that its sum names")


def _model_faults(record: Path) -> list[str]:
    found = []
    for entry in json.loads(record.read_text("utf-8"))["weights"].values():
        file = record.parent / entry["file"]
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
            found.append(f"{file}: not the weights that model.json names")
    return found


def _store_faults(manifest: Path) -> list[str]:
    found = []
    for line in manifest.read_text("utf-8").splitlines():
        row = json.loads(line)
        try:
            stack = np.load(manifest.parent / row["file"], allow_pickle=False)
        except (OSError, ValueError) as error:
            found.append(f"{row['file']}: {error}")
            continue
        size = row["preparation"]["size"]
        if stack.shape != (len(row["slices"]), size, size):
            found.append(f"{row['file']}: {stack.shape}, not as its row says")
    return found
