"""An attack as the hostile suite makes it: what it changes, the command, and the proof that it reached its target."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import torch
from reliability.sandbox import Outcome

TRANSLATE = ["translate-volume", "in.nii.gz", "out.nii.gz", "--model", "model", "--to", "mr"]
NEW = ["translate-volume", "evil", "out.nii.gz", "--model", "model", "--to", "mr", "--force"]
TRAIN = ["train", "--config", "config.yaml", "--slices", "made", "--max-steps", "2"]
SLICE = ["slice-volumes", "--config", "config.yaml"]

#: Makes an attack in a copy of the base; returns the command.
Prepare = Callable[[Path], list[str]]


@dataclasses.dataclass(frozen=True)
class Case:
    """An attack, and the proof that it reached its target.

    ``kind``: what must come of it. ``said``: a pattern that stderr must hold. ``seen``: what must be true of the folder
    and of the command's outcome. ``in_arguments``: the command line is the attack, so there is nothing to leave out.
    """

    name: str
    prepare: Prepare
    said: str = ""
    kind: str = "refused"
    seen: Callable[[Path, Outcome], bool] | None = None
    in_arguments: bool = False

    def reached(self, folder: Path, outcome: Outcome) -> bool:
        """Whether the outcome in ``folder`` proves that the attack reached its target."""
        said = re.search(self.said, " ".join(outcome.err.split())) is not None
        return outcome.kind == self.kind and said and (self.seen is None or self.seen(folder, outcome))


class Payload:
    """What runs when a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch EXECUTED; touch ../EXECUTED",)


def replaced(path: str, make: Callable[[Path], None], arguments: list[str]) -> Prepare:
    """Put what ``make`` makes in the place of a file or folder, which is moved away."""

    def prepare(folder: Path) -> list[str]:
        file = folder / path
        if file.is_dir() and not file.is_symlink():
            file.rename(folder.parent / "outside" / file.name)
        else:
            file.unlink(missing_ok=True)
        make(file)
        return arguments

    return prepare


def link(target: str) -> Callable[[Path], None]:
    """Return what makes a symbolic link."""
    return lambda path: path.symlink_to(target)


def saved(state: object) -> bytes:
    """Return ``state`` as torch saves it."""
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()
