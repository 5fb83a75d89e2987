"""Mistakes that users make: each is answered by one line, whose remedy works when it is followed word by word.

A remedy is a command (or a change of files) in which ``{1}`` is the first group of the pattern that the message must
match: what the user copies from the message.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from support import mistakes_in_commands, mistakes_in_files
from support.mistakes import PLACE, SHAPE, run
from support.models import CT_DOMAIN, MR, MR_DOMAIN, tiny_model
from support.phantoms import head_ct, head_mr, write_nifti
from support.stores import blobs, make_store

from medcyclegan.model import DomainModel

MISTAKES = mistakes_in_commands.MISTAKES | mistakes_in_files.MISTAKES


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder of a user who has sliced and trained."""
    folder = tmp_path_factory.mktemp("prepared")
    write_nifti(head_mr(SHAPE, PLACE, seed=3), folder / "in.nii.gz")
    write_nifti(head_ct(SHAPE, PLACE, seed=3), folder / "ct.nii.gz")
    for n in range(2):
        write_nifti(head_mr(SHAPE, PLACE, seed=n), folder / "volumes" / "t1" / f"p{n}.nii.gz")
        write_nifti(head_mr(SHAPE, PLACE, seed=9 + n, inverted=True), folder / "volumes" / "t2" / f"q{n}.nii.gz")
    make_store(folder / "slices", {"t1": [blobs(2, 32, 0)], "t2": [blobs(2, 32, 1, inverted=True)]})
    tiny_model(DomainModel("t1", "MR", MR), DomainModel("t2", "MR", MR)).save(folder / "runs" / "1" / "model")
    tiny_model(CT_DOMAIN, MR_DOMAIN).save(folder / "ct-model")
    (folder / "runs" / "latest").symlink_to("1")
    (folder / "runs" / "1" / "config.yaml").write_text("seed: 0\n")
    (folder / "runs" / "1" / "run.json").write_text(
        '{"state": "finished", "step": 7, "steps": 7, "domains": ["t1", "t2"]}'
    )
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_its_remedy_works(name, prepared, tmp_path, monkeypatch):
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    mistake = MISTAKES[name]
    forbid_locked_folders(monkeypatch)
    mistake.before()
    try:
        code, line = run(mistake.command)
        found = re.search(mistake.says, line, re.MULTILINE)
        assert found is not None, line
        assert code == mistake.code, line
        assert not list(folder.glob("o.*json")), "no output of a refused command"
        mistake.by_hand(found)
        remedy = re.sub(r"\{(\d)\}", lambda group: found[int(group[1])], mistake.remedy)
        code, line = run(remedy)
        assert code == 0, f"{remedy}: {line}"
    finally:
        mistake.undo()


def forbid_locked_folders(monkeypatch) -> None:
    """Let no process write into a folder whose mode forbids it, not even one of root."""
    allowed = os.access

    def access(path, mode, **options):
        locked = mode & os.W_OK and Path(path).is_dir() and not Path(path).stat().st_mode & 0o200
        return not locked and allowed(path, mode, **options)

    monkeypatch.setattr(os, "access", access)


def test_there_are_forty():
    assert len(MISTAKES) >= 40
