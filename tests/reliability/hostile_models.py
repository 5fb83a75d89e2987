"""Model folders and runs made to do harm: records, weights and checkpoints that are something else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from reliability.attacks import TRANSLATE, Case, Payload, Prepare, link, replaced, saved
from reliability.sandbox import Outcome
from reliability.workspace import edit_record


def cases() -> list[Case]:
    """Return the cases."""
    return [*_model_cases(), *_run_cases()]


def _model_cases() -> list[Case]:
    names = ("../../x", "/etc/x", "..", "a\0b", "x" * 300, "<script>", "-rf", "\x1b[2J", "")
    size, pixel, domain = ("preparation", "size"), ("preparation", "pixel_mm"), ("domains", "B", "scaling")
    values: list[tuple[str, *tuple[object, ...]]] = [
        ("size Input should be less", *size, 10**9), ("size Input should be greater", *size, -4),
        ("size Input should be a valid integer", *size, "x"), ("over 2048 pixels of 1e-09 mm", *pixel, 1e-9),
        ("pixel_mm Input .*input_value=0", *pixel, 0), ("pixel_mm Input .*input_value=-1", *pixel, -1),
        ("pixel_mm Input .*input_value=nan", *pixel, float("nan")),
        ("fit Input should be", "preparation", "fit", ["a"]),
        ("filters Input should be", "generator", "filters", 10**9),
        ("blocks Input should be", "generator", "blocks", 10**9),
        ("kind Input .*os.system", "generator", "kind", "os.system"),
        (r"to 1e\+308 .*cannot be computed with", *domain, "upper", 1e308),
        (r"an intensity unit .*'a.*': 1", *domain, "unit", {"a": 1}),
        ("TypeError.*dictionary update", "provenance", [1]),
    ]  # fmt: skip
    found = [Case(f"model.json {path[-2]} = {str(path[-1])[:20]}", _model(*path), said) for said, *path in values]
    found += [Case(f"model.json name {name[:12]!r}", _model("domains", "B", "name", name), "the domain name")
              for name in names]  # fmt: skip
    no_tensors = "G_AB.safetensors is not a safetensors file"
    return [
        *found,
        Case("model.json file = ../../x", _weights_elsewhere, kind="done", seen=_own_weights_were_used),
        Case("model.json of deep lists", replaced("model/model.json", _deep_lists, TRANSLATE),
             "model.json cannot be read"),
        Case("model.json a pipe", replaced("model/model.json", os.mkfifo, TRANSLATE),
             "model.json is not a regular file"),
        Case("model.json a link out", replaced("model/model.json", link("../../outside/model.json"), TRANSLATE),
             "model.json is a link that leads out of the model folder"),
        Case("weights a pickle", _model_file("G_AB.safetensors", pickle.dumps(Payload())), no_tensors),
        Case("weights a torch pickle", _model_file("G_AB.safetensors", saved(Payload())), no_tensors),
        Case("weights of a huge header", _model_file("G_AB.safetensors", b"\xff" * 7 + b"\x7f" + b"{}"), no_tensors),
        Case("weights a pipe", replaced("model/G_AB.safetensors", os.mkfifo, TRANSLATE),
             "G_AB.* is not a regular file"),
        Case("weights a link out", replaced("model/G_AB.safetensors", link("../../outside/x"), TRANSLATE),
             "G_AB.safetensors is a link that leads out of the model folder"),
    ]  # fmt: skip


def _run_cases() -> list[Case]:
    passed_over = r"checkpoints/\S+ is damaged \({}.*: using the previous checkpoint.* continuing after step 4"
    return [
        Case("checkpoint a pickle", _checkpoint(lambda state: pickle.dumps(Payload())), passed_over.format(""), "done"),
        Case("checkpoint a torch pickle", _checkpoint(lambda state: saved({**state, "metrics": Payload()})),
             passed_over.format("it cannot be loaded: Weights only load failed"), "done"),
        Case("checkpoint a list", _checkpoint(lambda state: saved([1, 2])),
             passed_over.format("it cannot be loaded: it is not the state of a run"), "done"),
        Case("checkpoint of other networks", _checkpoint(lambda state: saved({**state, "networks": {}})),
             "the checkpoint of step 8 is not of these networks"),
        Case("checkpoint a zip bomb", _checkpoint(_deflated),
             passed_over.format("it cannot be loaded: it is compressed"), "done"),
        Case("run's configuration with a tag", _run_yaml, "not valid YAML: .* tag .*os.system"),
    ]  # fmt: skip


def _model(*change: object) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        edit_record(folder / "model", *change)
        return TRANSLATE

    return prepare


def _model_file(name: str, content: bytes) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / "model" / name).write_bytes(content)
        edit_record(folder / "model", "weights", name.split(".")[0], "sha256", hashlib.sha256(content).hexdigest())
        return TRANSLATE

    return prepare


def _weights_elsewhere(folder: Path) -> list[str]:
    """Name other weights, that are there and whole, by a path out of the folder."""
    other = folder.parent / "outside" / "x"
    data = bytearray((folder / "model" / "G_AB.safetensors").read_bytes())
    data[-4:] = np.float32(0.5).tobytes()
    other.write_bytes(bytes(data))
    edit_record(folder / "model", "weights", "G_AB", "file", "../../outside/x")
    return TRANSLATE


def _own_weights_were_used(folder: Path, _: Outcome) -> bool:
    """Whether the record names other weights, and the translation was made with the folder's own."""
    named = json.loads((folder / "model" / "model.json").read_text())["weights"]["G_AB"]["file"]
    used, original = (json.loads((folder / f"{name}.json").read_text())["model"] for name in ("out", "done"))
    return named == "../../outside/x" and used == original


def _deep_lists(path: Path) -> None:
    path.write_text("[" * 10**6)


def _checkpoint(make: Callable[[dict[str, object]], bytes]) -> Prepare:
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


def _deflated(state: dict[str, object]) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(state))) as plain,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
        packed.writestr("archive/data/999", bytes(1 << 28))
    return stream.getvalue()


def _run_yaml(folder: Path) -> list[str]:
    arguments = _checkpoint(saved)(folder)
    (folder / "runs" / "latest" / "config.yaml").write_text("seed: !!python/object/apply:os.system ['touch EXECUTED']")
    return arguments
