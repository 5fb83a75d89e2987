"""The files that :mod:`garbage` damages: how, how they are used, and what they hold when they are whole."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from support import dicom_phantoms as made
from support.models import tiny_model
from support.phantoms import head_ct, write_nifti
from support.stores import blobs, make_store

from medcyclegan.config import Config, load_config, to_yaml
from medcyclegan.data.stacks import StackReader, check_stacks
from medcyclegan.io import read_volume
from medcyclegan.manifest import load_manifest
from medcyclegan.model import ModelBundle

Mutation = Callable[[bytes, random.Random], tuple[str, bytes]]


@dataclasses.dataclass(frozen=True)
class Damaged:
    """Whole files (``source``), how one of them is damaged, and what using them gives."""

    source: Path
    file: str
    mutate: Mutation
    use: Callable[[Path], object]
    #: Kinds of damage that nothing could notice.
    unseen: tuple[str, ...]
    truth: object

    def damage(self, folder: Path, seed: int) -> tuple[str, bool]:
        """Put a damaged copy into ``folder``; return the kind of damage and whether it could be noticed."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.source, folder)
        path = min(folder.glob(self.file))
        kind, content = self.mutate(path.read_bytes(), random.Random(seed))
        path.write_bytes(content)
        return kind, kind not in self.unseen


def _bytes(data: bytes, rng: random.Random, start: int = 0, stop: int | None = None) -> tuple[str, bytes]:
    """Damage bytes in one of five ways."""
    changed, stop = bytearray(data), len(data) if stop is None else stop
    place = rng.randrange(start, stop)
    kind = rng.choice(("bit", "byte", "cut", "hole", "more"))
    if kind == "bit":
        changed[place] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(start, stop)] = rng.randrange(256)
    elif kind == "cut":
        del changed[place:]
    elif kind == "hole":
        del changed[place : place + rng.randrange(1, 60)]
    else:
        changed[place:place] = rng.randbytes(rng.randrange(1, 60))
    return kind, bytes(changed)


#: Fields of a NIfTI-1 header: offset, format, how many.
_FIELDS = {
    "sizeof_hdr": (0, "i", 1), "dim": (40, "h", 8), "intent_p1": (56, "f", 1), "datatype": (70, "h", 1),
    "bitpix": (72, "h", 1), "pixdim": (76, "f", 8), "vox_offset": (108, "f", 1), "scl": (112, "f", 2),
    "xyzt_units": (123, "b", 1), "cal": (124, "f", 2), "qform_code": (252, "h", 1), "sform_code": (254, "h", 1),
    "quatern": (256, "f", 6), "srow": (280, "f", 12), "magic": (344, "i", 1),
}  # fmt: skip
_ODD = {
    "f": (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"), 0.5, 3.4e38),
    "h": (0, -1, 1, 7, 8, 255, 4096, 32767, -32768, 30000),
    "i": (0, -1, 540, 348, 2**31 - 1),
    "b": (0, -1, 3, 10, 127),
}


def _nifti_header(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Set one field of a header that is packed anew, so that its checksum holds: only the header itself can tell."""
    header = bytearray(gzip.decompress(data))
    name = rng.choice(sorted(_FIELDS))
    offset, form, count = _FIELDS[name]
    size = struct.calcsize(form)
    place = offset + size * rng.randrange(count)
    struct.pack_into(f"<{form}", header, place, rng.choice(_ODD[form]))
    return "legal header", gzip.compress(bytes(header), 1)


def _outside_pixels(head: int) -> Mutation:
    """Damage a file whose first ``head`` bytes are a header and whose rest are pixels without a checksum."""

    def mutate(data: bytes, rng: random.Random) -> tuple[str, bytes]:
        if rng.random() < 0.3:
            changed = bytearray(data)
            changed[rng.randrange(head, len(data))] ^= 1 << rng.randrange(8)
            return "pixel", bytes(changed)
        kind, content = _bytes(data, rng, 0, head)
        return (kind if kind == "cut" else "legal header"), content

    return mutate


def _json(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Set, or take away, one value of the first record; or damage bytes."""
    if rng.random() < 0.4:
        return "legal header", _bytes(data, rng)[1]
    first, _, rest = data.decode().partition("\n") if data.count(b"\n{") else (data.decode(), "", "")
    record = json.loads(first)
    place, key = _somewhere(record, rng)
    odd: tuple[Any, ...] = (None, -1, 0, 1e308, "", "../x", [], {}, True, "x" * 10_000, 2**70, [[[]]], "\ud800", "CT")
    if rng.random() < 0.2:
        place.pop(key)
    else:
        place[key] = rng.choice(odd)
    return "legal header", (json.dumps(record) + ("\n" + rest if rest else "\n")).encode("utf-8", "surrogatepass")


def _somewhere(record: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a container within ``record`` and a key of it."""
    while True:
        key = rng.choice(sorted(record) if isinstance(record, dict) else range(len(record)))
        inner = record[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.3:
            return record, key
        record = inner


def _yaml(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    if rng.random() < 0.4:
        return "legal header", _bytes(data, rng)[1]
    lines = data.decode().splitlines()
    number = rng.randrange(len(lines))
    odd = (
        "!!python/name:os.system",
        "[",
        "{a: }",
        "&a",
        "*a",
        ".nan",
        "1e999",
        "-1",
        "'",
        "\t",
        "~",
        "!!binary x",
        "0x" + "f" * 900,
    )
    lines[number] = lines[number].split(":")[0] + ": " + rng.choice(odd)
    return "legal header", "\n".join(lines).encode()


def _record_and_weights(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage a model's record without its checksum: what is left to notice is what no training writes."""
    record = json.loads(data)
    record.pop("record_sha256", None)
    return _json(json.dumps(record).encode(), rng)


def _volume(folder: Path, name: str) -> object:
    found = read_volume(folder if not name else folder / name)
    return hashlib.sha256(np.asarray(found.array, np.float64).tobytes()).hexdigest(), np.round(found.affine, 3).tolist()


def _store(folder: Path) -> object:
    rows = load_manifest(folder)
    size = check_stacks(folder, rows)
    reader = StackReader(folder)
    return size, [(dataclasses.asdict(row), float(reader.read(row, 0).astype(np.float64).sum())) for row in rows]


def _model(folder: Path) -> object:
    bundle = ModelBundle.load(folder)
    return bundle.fingerprint, dict(bundle.provenance)


def _resigned(folder: Path) -> object:
    """Use weights whose sum was brought up to date: safetensors itself has to notice."""
    record = json.loads((folder / "model.json").read_text())
    record.pop("record_sha256", None)
    content = (folder / "G_AB.safetensors").read_bytes()
    record["weights"]["G_AB"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(record))
    return ModelBundle.load(folder).fingerprint


def _all(kinds: str = "") -> tuple[str, ...]:
    return ("legal header", "pixel", *kinds.split())


TARGETS = (
    "nii.gz bytes", "nii.gz header", "nii bytes", "DICOM", "manifest", "stack", "model.json", "model.json unsigned",
    "weights", "weights signed", "YAML", "PNG", "JPEG", "MHA", "NRRD",
)  # fmt: skip


def build(root: Path) -> dict[str, Damaged]:
    """Write the whole files and use them once."""
    volume = head_ct((12, 14, 6))
    plain = sitk.GetImageFromArray(volume.array.transpose(2, 1, 0))
    for name in ("gz", "nii", "mha", "nrrd", "png", "jpg", "yaml"):
        (root / name).mkdir(parents=True)
    write_nifti(volume, root / "gz" / "v.nii.gz")
    write_nifti(volume, root / "nii" / "v.nii")
    made.save(made.slices_of(volume), root / "dicom")
    sitk.WriteImage(plain, str(root / "mha" / "v.mha"), useCompression=True)
    sitk.WriteImage(plain, str(root / "nrrd" / "v.nrrd"), useCompression=True)
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    grey.save(root / "png" / "v.png")
    grey.save(root / "jpg" / "v.jpg")
    make_store(root / "store", {"t1": [blobs(3, 32, 1)], "t2": [blobs(3, 32, 2)]})
    tiny_model().save(root / "model")
    tiny_model().save(root / "signed")
    (root / "yaml" / "c.yaml").write_text(to_yaml(Config()), "utf-8")

    def target(folder: str, file: str, mutate: Mutation, use: Callable[[Path], object], unseen: str = "") -> Damaged:
        return Damaged(root / folder, file, mutate, use, _all(unseen), use(root / folder))

    rest = "bit byte hole more cut"
    return {
        "nii.gz bytes": target("gz", "v.nii.gz", lambda d, r: _bytes(d, r, 10), lambda f: _volume(f, "v.nii.gz")),
        "nii.gz header": target("gz", "v.nii.gz", _nifti_header, lambda f: _volume(f, "v.nii.gz")),
        "nii bytes": target("nii", "v.nii", _outside_pixels(352), lambda f: _volume(f, "v.nii")),
        "DICOM": target("dicom", "*3.dcm", lambda d, r: _bytes(d, r, 132), lambda f: _volume(f, ""), rest),
        "manifest": target("store", "manifest.jsonl", _json, _store),
        "stack": target("store", "t1/*.npy", _outside_pixels(128), _store),
        "model.json": target("model", "model.json", lambda d, r: (_json(d, r)[0] + " signed", _json(d, r)[1]), _model),
        "model.json unsigned": target("model", "model.json", _record_and_weights, _model),
        "weights": target("model", "G_AB.safetensors", _bytes, _model),
        "weights signed": target("signed", "G_AB.safetensors", _bytes, _resigned, rest),
        "YAML": target("yaml", "c.yaml", _yaml, lambda f: load_config(f / "c.yaml").model_dump(mode="json"), rest),
        "PNG": target("png", "v.png", _bytes, lambda f: _volume(f, "v.png")),
        "JPEG": target("jpg", "v.jpg", _bytes, lambda f: _volume(f, "v.jpg"), rest),
        "MHA": target("mha", "v.mha", _bytes, lambda f: _volume(f, "v.mha"), rest),
        "NRRD": target("nrrd", "v.nrrd", _bytes, lambda f: _volume(f, "v.nrrd"), rest),
    }
