"""Stores, configurations and folders of volumes made to do harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from reliability.attacks import NEW, SLICE, TRAIN, Case, Payload, Prepare, link, replaced
from reliability.sandbox import Outcome


def cases() -> list[Case]:
    """Return the cases."""
    return [*_store_cases(), *_configuration_cases(), *_volume_cases()]


def _store_cases() -> list[Case]:
    leads_out = r"made/ct/\S+.npy leads out of the slice store by a link"
    return [
        Case("row of the domain /", _row(domain="/", file="/x.npy"), "the domain '/' must be a plain name"),
        Case("row of the domain ..", _row(domain="..", file="../x.npy"), r"the domain '\.\.' must be a plain name"),
        Case("row of a file elsewhere", _row(file="../../outside/x.npy"), "the file '../../outside/x.npy' must be"),
        Case("row of a path as case", _row(case="../../outside/x"), "case and patient must be hexadecimal"),
        Case("stack with objects", _stack(_object_array), "is damaged .*Python objects"),
        Case("stack a zip", _stack(lambda p: np.savez(p.open("wb"), a=np.zeros(3))), "is damaged .*magic string"),
        Case("stack a link out", _stack(link("../../../outside/stack.npy")), leads_out),
        Case("domain a link out", replaced("made/ct", link("../../outside/ct"), TRAIN), leads_out),
        Case("store's domain a link out", replaced("slices", lambda p: linked_store(p), SLICE),
             r"slices/ct/\S+.npy leads out of the slice store"),
    ]  # fmt: skip


def _configuration_cases() -> list[Case]:
    apply = "could not determine a constructor for the tag '.*python/{}"
    return [
        Case("YAML tag apply", _yaml("seed: !!python/object/apply:os.system ['touch EXECUTED']"),
             apply.format("object/apply")),
        Case("YAML tag new", _yaml("seed: !!python/object/new:os.system ['touch EXECUTED']"),
             apply.format("object/new")),
        Case("YAML tag module", _yaml("a: !!python/module:antigravity"), apply.format("module:antigravity")),
        Case("YAML bomb", _yaml("a: &a [x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(99))), "YAML aliases"),
        Case("YAML of 50,000 keys", _yaml("".join(f"k{i}: 1\n" for i in range(50_000))), "over 100 kB"),
        Case("YAML long number", _yaml("seed: 1" + ":1" * 40_000), "a value of 80001 characters"),
        Case("YAML hexadecimal", _yaml("seed: 0x" + "f" * 90_000), "a value of 90002 characters"),
        Case("YAML deep", _yaml("[" * 90_000), "not valid YAML: maximum recursion depth"),
        Case("--set deep", lambda folder: ["train", "--set", "seed=" + "[" * 9000], "not valid YAML: maximum recursion",
             in_arguments=True),
        Case("split file of one long field", _split_file("case,patient,split\n" + "x" * 300_000 + ",p,train\n"),
             "field larger than field limit"),
        Case("split file with NUL", _split_file("case,patient,split\n\0,p,train\n"), r"such as '\\x00'"),
    ]  # fmt: skip


def _volume_cases() -> list[Case]:
    return [
        Case("names of files", _odd_names, r"ct: .* 12 volumes .* 72 slices", "done"),
        Case("pipes and devices among volumes", _pipes, r"ct: .* 3 volumes .* 18 slices", "done", _pipes_are_there),
        Case("a pipe as input", _named_pipe, "evil.nii.gz: neither a file nor a folder"),
        Case("links in circles, deep folders", _web, "loop/.*not in HU.*2 volumes were refused"),
        Case("output name of 300 characters",
             lambda folder: [*NEW[:1], "in.nii.gz", "o" * 300 + ".nii.gz", *NEW[3:]],
             "at most 255 bytes|File name too long", in_arguments=True),
    ]  # fmt: skip


def _row(**changes: object) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        file = folder / "made" / "manifest.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[0] |= changes
        shutil.copy(next((folder / "made").glob("*/*.npy")), folder / "made" / f"{rows[0]['case']}.npy")
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return TRAIN

    return prepare


def _stack(make: Callable[[Path], None]) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        stack = min((folder / "made" / "ct").glob("*.npy"))
        shutil.move(stack, folder.parent / "outside" / "stack.npy")
        make(stack)
        return TRAIN

    return prepare


def _object_array(path: Path) -> None:
    np.save(path, np.array([Payload()], dtype=object), allow_pickle=True)


def linked_store(path: Path) -> None:
    """Begin a store whose domain is a link to elsewhere."""
    path.mkdir()
    shutil.copy(path.parent / "made" / ".key", path / ".key")
    (path / "ct").symlink_to("../../outside")


def _yaml(text: str) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / "config.yaml").write_text(text, "utf-8")
        return TRAIN

    return prepare


def _split_file(text: str) -> Prepare:
    def prepare(folder: Path) -> list[str]:
        (folder / "split.csv").write_text(text, "utf-8")
        return [*SLICE, "--split-file", "split.csv", "--out", "other"]

    return prepare


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
    return SLICE


def _pipes(folder: Path) -> list[str]:
    os.mkfifo(folder / "volumes" / "ct" / "pipe.nii.gz")
    (folder / "volumes" / "ct" / "zero.nii").symlink_to("/dev/zero")
    return SLICE


def _pipes_are_there(folder: Path, _: Outcome) -> bool:
    return (folder / "volumes" / "ct" / "pipe.nii.gz").is_fifo() and (
        folder / "volumes" / "ct" / "zero.nii"
    ).is_symlink()


def _web(folder: Path) -> list[str]:
    """Folders that all link to each other, to their parent, and 300 one below the other."""
    top = folder / "volumes" / "ct"
    for one in range(9):
        (top / f"d{one}").mkdir()
        for other in range(9):
            (top / f"d{one}" / f"l{other}").symlink_to(f"../d{other}")
    (top / "loop").symlink_to("..")
    subprocess.run(["mkdir", "-p", "/".join(["d"] * 300)], cwd=top, check=True)
    return SLICE


def _named_pipe(folder: Path) -> list[str]:
    os.mkfifo(folder / "evil.nii.gz")
    return [NEW[0], "evil.nii.gz", *NEW[2:]]
