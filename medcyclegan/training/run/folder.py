"""The folder of one training run: the paths in it, its creation and its lock."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from medcyclegan.config import Config, load_config, to_yaml
from medcyclegan.errors import TrainingError, WriteError
from medcyclegan.manifest import KEY_FILE
from medcyclegan.run_record import LOCK_FILE, RECORD_FILE
from medcyclegan.storage import atomic_folder, exclusive_lock, remove_leftovers, replace_link

__all__ = ["REFERENCE", "RunFolder", "create_run", "find_run", "point_latest_at"]

#: The slice store of a pretraining that draws its patients, in the run's folder.
REFERENCE = "reference"
_LATEST = "latest"
_LOCK_ATTEMPTS, _LOCK_PAUSE_S = 5, 0.05


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run's folder: ``config.yaml``, ``run.json``, ``metrics.jsonl``, panels, checkpoints and the model."""

    path: Path

    @property
    def metrics(self) -> Path:
        """The file of losses and validation scores, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def panels(self) -> Path:
        """The folder of pictures."""
        return self.path / "panels"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The model folder: the best validated weights, or the last ones if nothing is held out."""
        return self.path / "model"

    @property
    def model_last(self) -> Path:
        """The model folder of the last checkpoint; :attr:`model` may be an earlier one."""
        return self.path / "model-last"

    @property
    def reference(self) -> Path:
        """The slice store of a pretraining that draws its patients."""
        return self.path / REFERENCE

    def load_config(self) -> Config:
        """Return the configuration that the run was started with."""
        return load_config(self.path / "config.yaml")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock this run, so that no other process trains it; the lock ends with the process.

        Removes incomplete files of a killed process. Raises :class:`~medcyclegan.errors.TrainingError` if another
        process holds the lock.
        """
        with contextlib.ExitStack() as held:
            if not _take_lock(self.path / LOCK_FILE, held):
                raise TrainingError(f"{self.path} is being trained by another process: wait for it, or stop it")
            for folder in (self.path, self.panels, self.checkpoints):
                remove_leftovers(folder)
            yield


def create_run(out: Path, config: Config, record: bytes, reference: Path | None = None) -> RunFolder:
    """Create ``out/<YYYYmmdd-HHMMSS>`` with its configuration and ``run.json``, and point ``out/latest`` at it.

    ``reference``: a slice store that becomes part of the folder, on the same file system.
    Raises :class:`~medcyclegan.errors.WriteError` if they cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path, number = out / stamp, 2
    while True:
        while os.path.lexists(path):
            path, number = out / f"{stamp}-{number}", number + 1
        try:
            with atomic_folder(path) as folder:
                (folder / "config.yaml").write_text(to_yaml(config), "utf-8")
                (folder / RECORD_FILE).write_bytes(record)
                if reference is not None:
                    private = shutil.ignore_patterns(KEY_FILE)
                    shutil.copytree(reference, folder / REFERENCE, copy_function=_link_or_copy, ignore=private)
            break
        except WriteError:
            # Jobs of an array may start in the same second: another one has just created this folder.
            if not os.path.lexists(path):
                raise
    point_latest_at(path)
    return RunFolder(path)


def point_latest_at(run: Path) -> None:
    """Let ``latest``, next to the folder of a run, point to it."""
    replace_link(run.parent / _LATEST, run.name)


def find_run(path: Path) -> RunFolder:
    """Return the run in ``path``, which may be a link to it.

    Raises :class:`~medcyclegan.errors.TrainingError` if there is none.
    """
    if not path.is_dir():
        raise TrainingError(
            f"{path}: there is no run to continue: start one with medcyclegan train, or name its folder"
        )
    if not (path / "config.yaml").is_file():
        raise TrainingError(f"{path} holds no config.yaml: name a run's folder, such as runs/{_LATEST}")
    return RunFolder(path.parent / os.readlink(path) if path.is_symlink() else path)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _take_lock(file: Path, held: contextlib.ExitStack) -> bool:
    """Lock ``file`` until ``held`` ends; return False if another process trains the run."""
    for attempt in range(_LOCK_ATTEMPTS):
        # A report holds the lock for a moment to find out whether the run is being trained.
        time.sleep(_LOCK_PAUSE_S if attempt else 0.0)
        with contextlib.suppress(BlockingIOError):
            held.enter_context(exclusive_lock(file, wait=False))
            return True
    return False
