"""Mistakes that users make: each is answered by one line, whose remedy works when it is followed word by word.

A remedy is a command (or a change of files) in which ``{1}`` is the first group of the pattern that the message must
match: what the user copies from the message.
"""

from __future__ import annotations

import dataclasses
import os
import re
import resource
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from support import dicom_phantoms as made
from support.models import CT_DOMAIN, MR, MR_DOMAIN, tiny_model
from support.phantoms import head_ct, head_mr, make_affine, write_nifti
from support.stores import blobs, make_store

from medcyclegan.cli.main import main
from medcyclegan.io import write_volume
from medcyclegan.model import DomainModel
from medcyclegan.volume import Volume

SHAPE, PLACE = (24, 28, 16), make_affine("LPS", (8.0, 8.0, 12.0))
TRAIN = (
    "train --config smoke --max-steps 1 --set networks.generator.filters=2 --set networks.discriminator.filters=2 "
    "--set training.panel_every=9"
)
SLICE = "slice-volumes --size 32 --pixel-mm 8"


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A command line, what its error line must match, and the command that follows from that line."""

    command: str
    says: str
    remedy: str
    code: int = 1
    before: Callable[[], object] = lambda: None
    by_hand: Callable[[re.Match[str]], object] = lambda found: None
    undo: Callable[[], object] = lambda: None


def write_series(folder: str, head=head_ct, seed: str = "a", drop: int | None = None) -> None:
    slices = made.slices_of(head(SHAPE, PLACE), seed=seed)
    if drop is not None:
        del slices[drop]
    made.save(slices, Path(folder))


def text(name: str, content: str) -> None:
    Path(name).write_text(content)


def two_series() -> None:
    write_series("both", seed="a")
    for number, file in enumerate(sorted(Path("both").iterdir())):
        file.rename(f"both/first-{number}.dcm")
    write_series("other", seed="b")
    for number, file in enumerate(sorted(Path("other").iterdir())):
        file.rename(f"both/second-{number}.dcm")


def mixed_domain() -> None:
    shutil.rmtree("volumes")
    write_series("volumes/ct/a", head_ct)
    write_series("volumes/ct/b", head_mr, seed="b")
    write_series("volumes/mr/c", head_mr, seed="c")


def cut_short(name: str) -> None:
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])


def without_axes() -> None:
    write_nifti(head_mr(SHAPE, PLACE), Path("plain.nii.gz"), sform_code=0, qform_code=0)


def four_dimensions(name: str) -> None:
    volume = head_mr(SHAPE, PLACE)
    image = nib.Nifti1Image(np.stack([volume.array] * 2, axis=-1), volume.affine)
    image.set_sform(volume.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, name)


def with_nan(name: str) -> None:
    volume = head_mr(SHAPE, PLACE)
    volume.array[5, 5, 5] = np.nan
    write_nifti(volume, Path(name))


def hu_volumes() -> None:
    shutil.rmtree("volumes")
    for domain, head in (("a", head_ct), ("b", head_mr)):
        for n in range(2):
            write_nifti(head(SHAPE, PLACE, seed=n), Path("volumes") / domain / f"p{n}.nii.gz")


def third_domain() -> None:
    make_store(Path("slices"), {name: [blobs(2, 32, n)] for n, name in enumerate(("pd", "t1", "t2"))})


def one_domain() -> None:
    shutil.rmtree("slices")
    make_store(Path("slices"), {"t1": [blobs(2, 32, 0)]})


def small_disk() -> None:
    Path("full").mkdir()
    made_one = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "full"], capture_output=True)
    if made_one.returncode:
        pytest.skip("only root may mount a small disk; the case without a disk is the next one")


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


#: Name of the mistake -> what happens.
MISTAKES = {
    # names
    "a command": Mistake(
        "translate in.nii.gz o.nii.gz",
        r"No such command 'translate'. \(Did you mean '([\w-]+)'\?\)",
        "{1} in.nii.gz o.nii.gz",
        2,
    ),
    "an option": Mistake(
        "translate-volume in.nii.gz o.nii.gz --too t2",
        r"No such option '--too'.*Did you mean one of: '(--to)'",
        "translate-volume in.nii.gz o.nii.gz {1} t2",
        2,
    ),
    "a file": Mistake(
        "translate-volume inn.nii.gz o.nii.gz",
        r"inn.nii.gz: no such file or folder: did you mean (\S+)\?",
        "translate-volume {1} o.nii.gz",
    ),
    "upper case in a file": Mistake(
        "translate-volume IN.nii.gz o.nii.gz",
        r"IN.nii.gz: no such file or folder: did you mean (\S+)\?",
        "translate-volume {1} o.nii.gz",
    ),
    "a folder": Mistake(
        f"{SLICE} volume --out s",
        r"volume: no such file or folder: did you mean (\S+)\?",
        f"{SLICE} {{1}} --out s",
    ),
    "upper case in a domain": Mistake(
        "translate-volume in.nii.gz o.nii.gz --to T2",
        r"--to T2: .* t1 and t2: did you mean (--to \w+)\?",
        "translate-volume in.nii.gz o.nii.gz {1}",
    ),
    "an unknown domain": Mistake(
        "translate-volume in.nii.gz o.nii.gz --to flair",
        r"translates between (\w+) and (\w+): name one of them",
        "translate-volume in.nii.gz o.nii.gz --to {2}",
    ),
    "a domain of the store": Mistake(
        f"{TRAIN} --domains t1 T2",
        r"slices holds no domain T2: did you mean (\w+)\?",
        f"{TRAIN} --domains t1 {{1}}",
    ),
    "a model": Mistake(
        "export --format monai-bundle --model head-t1t2",
        r"head-t1t2 is neither a folder nor a shipped model: did you mean (\S+)\?",
        "export --format monai-bundle --model {1}",
    ),
    "a model that nobody trained": Mistake(
        "translate-volume in.nii.gz o.nii.gz",
        r"the default model, .*, or use a shipped one: (--model \S+)",
        "translate-volume in.nii.gz o.nii.gz {1}",
        before=lambda: (shutil.rmtree("runs"), write_nifti(head_mr((24, 28, 3), PLACE), Path("in.nii.gz"))),
    ),
    "a run for a model": Mistake(
        "translate-volume in.nii.gz o.nii.gz --model runs/1",
        r"name a model folder, such as (\S+)",
        "translate-volume in.nii.gz o.nii.gz --model {1}",
    ),
    "a configuration": Mistake(
        f"{TRAIN} --config smok",
        r"smok: no such configuration file: did you mean '(\w+)'\?",
        f"{TRAIN} --config {{1}}",
    ),
    "a key": Mistake(
        f"{TRAIN} --set training.epoch=1",
        r"unknown key 'training.epoch': did you mean '(\w+)'\?",
        f"{TRAIN} --set training.{{1}}=1",
        2,
    ),
    "a key in a file": Mistake(
        f"{SLICE} --config own.yaml --out s",
        r"own.yaml: unknown key 'slicing.sise': did you mean '(\w+)'\?",
        f"{SLICE} --config own.yaml --out s",
        before=lambda: text("own.yaml", "slicing: {sise: 32}\n"),
        by_hand=lambda found: text("own.yaml", f"slicing: {{{found[1]}: 32}}\n"),
    ),
    "a report of nothing": Mistake(
        "report runs/lates",
        r"runs/lates: no such file or folder: did you mean (\S+)\?",
        "report {1}",
    ),
    "a shipped model's card": Mistake(
        "models head-t1", r"head-t1: not a shipped model: name one of .*?(head-\S+)$", "models {1}", 2
    ),
    # numbers
    "a decimal comma": Mistake(
        "slice-volumes --pixel-mm 8,5 --out s",
        r"'8,5' is not a valid float. Write a decimal point: (\S+)$",
        "slice-volumes --size 32 --pixel-mm {1} --out s",
        2,
    ),
    "a decimal comma in --set": Mistake(
        f"{SLICE} --out s --set slicing.foreground=0,05",
        r"write a decimal point, (\S+)$",
        f"{SLICE} --out s --set slicing.foreground={{1}}",
        2,
    ),
    "no number": Mistake(
        "translate-volume in.nii.gz o.nii.gz --batch-size all",
        r"use a whole number from 1 on, or (auto)",
        "translate-volume in.nii.gz o.nii.gz --batch-size {1}",
        2,
    ),
    "a size that no network takes": Mistake(
        "slice-volumes --size 250 --out s",
        r"size = 250: Input should be a multiple of 4",
        "slice-volumes --size 252 --out s",
        2,
    ),
    "a shard without their number": Mistake(
        f"{SLICE} --out s --num-shards 2",
        r"pass (--shard-id 0) to 1 in 2 calls",
        f"{SLICE} --out s --num-shards 2 {{1}}",
        2,
    ),
    "an unknown choice": Mistake(
        "translate-volume in.nii.gz o.nii.gz --planes all",
        r"'all' is not one of '(axial)', 'three'",
        "translate-volume in.nii.gz o.nii.gz --planes {1}",
        2,
    ),
    "an unknown device": Mistake(
        "translate-volume in.nii.gz o.nii.gz --device gpu",
        r"--device gpu: write auto, (cpu), cuda",
        "translate-volume in.nii.gz o.nii.gz --device {1}",
        2,
    ),
    # folders of volumes
    "volumes without domains": Mistake(
        f"{SLICE} volumes/t1 --out s",
        r"holds no folders: .* or pass (--domain) NAME",
        f"{SLICE} volumes/t1 --out s {{1}} t1",
    ),
    "one file": Mistake(
        f"{SLICE} in.nii.gz --out s",
        r"is a file: .* or pass (--domain) NAME with its volumes",
        f"{SLICE} in.nii.gz --out s {{1}} t1",
    ),
    "umlauts": Mistake(
        f"{SLICE} --out s",
        r"the domain name 'Schädel': letters, digits, .*: rename it",
        f"{SLICE} --out s",
        before=lambda: Path("volumes/t1").rename("volumes/Schädel"),
        by_hand=lambda found: Path("volumes/Schädel").rename("volumes/Schaedel"),
    ),
    "mixed modalities": Mistake(
        f"{SLICE} --out s",
        r"the domain ct mixes .*: a domain has one modality; move the others to another domain",
        f"{SLICE} --out s",
        before=mixed_domain,
        by_hand=lambda found: Path("volumes/ct/b").rename("volumes/mr/b"),
    ),
    "a CT that nobody calls CT": Mistake(
        f"{SLICE} --out s",
        r"look like a CT in HU .*: pass (--set \S+=CT), or =MR",
        f"{SLICE} --out s {{1}}",
        before=hu_volumes,
    ),
    "synthetic volumes": Mistake(
        "translate-volume fake.nii.gz o.nii.gz",
        r"fake.nii.gz.*(--allow-synthetic)",
        "translate-volume fake.nii.gz o.nii.gz {1}",
        before=lambda: write_volume(
            Volume(head_mr(SHAPE, PLACE).array, PLACE, modality="MR", synthetic="made"), Path("fake.nii.gz")
        ),
    ),
    "a split file of another table": Mistake(
        f"{SLICE} --out s --split-file split.csv",
        r"split.csv: no column .*: its first line must be (case,patient,split)$",
        f"{SLICE} --out s --split-file split.csv",
        before=lambda: text("split.csv", "name,group\np0,train\n"),
        by_hand=lambda found: text("split.csv", f"{found[1]}\nt1/p0,p0,train\n"),
    ),
    # the order of commands
    "training before slicing": Mistake(
        f"{TRAIN}",
        r"slices: no slice store here: run medcyclegan (slice-volumes) first",
        f"{SLICE}",
        before=lambda: shutil.rmtree("slices"),
    ),
    "one domain": Mistake(
        f"{TRAIN}",
        r"holds one domain, t1, but a CycleGAN needs two: (slice) volumes of the other into it",
        f"{SLICE} volumes/t2 --domain t2 --out s",
        before=one_domain,
    ),
    "three domains": Mistake(
        f"{TRAIN}",
        r"holds 3 domains \((\w+), (\w+), (\w+)\): choose two with (--domains) A B",
        f"{TRAIN} {{4}} {{2}} {{3}}",
        before=third_domain,
    ),
    "no run to continue": Mistake(
        "train --resume --out other",
        r"there is no run to continue: start one with medcyclegan (train)",
        f"{TRAIN} --out other",
    ),
    "a configuration for a resumed run": Mistake(
        "train --resume --config smoke",
        r"--resume uses the configuration of the run: leave --config and --set out",
        "train --resume",
        2,
        before=lambda: run(TRAIN),
    ),
    # inputs
    "another modality": Mistake(
        "translate-volume ct.nii.gz o.nii.gz",
        r"the input is CT.*or accept it with (--force)",
        "translate-volume ct.nii.gz o.nii.gz {1} --to t2",
    ),
    "the wrong direction": Mistake(
        "translate-volume in.nii.gz o.nii.gz --model ct-model --to mr",
        r"translate to ct with (--to ct)",
        "translate-volume in.nii.gz o.nii.gz --model ct-model {1}",
    ),
    "four dimensions": Mistake(
        "translate-volume four.nii.gz o.nii.gz",
        r"four.nii.gz.*(--volume)",
        "translate-volume four.nii.gz o.nii.gz {1} 0",
        before=lambda: four_dimensions("four.nii.gz"),
    ),
    "not a number": Mistake(
        "translate-volume nan.nii.gz o.nii.gz",
        r"nan.nii.gz.*(--nan fill)",
        "translate-volume nan.nii.gz o.nii.gz {1}",
        before=lambda: with_nan("nan.nii.gz"),
    ),
    "no axes": Mistake(
        "translate-volume plain.nii.gz o.nii.gz",
        r"(--assume-axes \w{3})",
        "translate-volume plain.nii.gz o.nii.gz {1}",
        before=without_axes,
    ),
    "too many voxels": Mistake(
        "translate-volume in.nii.gz o.nii.gz --max-voxels 100",
        r"pass (--max-voxels \d+)",
        "translate-volume in.nii.gz o.nii.gz {1}",
    ),
    "two series": Mistake(
        "translate-volume both o.nii.gz --model ct-model",
        r"choose one with (--series) UID: ([\d.]+)",
        "translate-volume both o.nii.gz --model ct-model {1} {2}",
        before=lambda: (two_series(), [file.rename(Path("both") / file.name) for file in Path("other").iterdir()]),
    ),
    "a missing slice": Mistake(
        "translate-volume gap o.nii.gz --model ct-model",
        r"(--allow-gap-mm \d+)",
        "translate-volume gap o.nii.gz --model ct-model {1}",
        before=lambda: write_series("gap", drop=7),
    ),
    "a damaged download": Mistake(
        "translate-volume cut.nii.gz o.nii.gz",
        r"cut.nii.gz: .*cut short.*copy",
        "translate-volume cut.nii.gz o.nii.gz",
        before=lambda: (shutil.copy("in.nii.gz", "cut.nii.gz"), cut_short("cut.nii.gz")),
        by_hand=lambda found: shutil.copy("in.nii.gz", "cut.nii.gz"),
    ),
    "a web page instead of a volume": Mistake(
        "translate-volume page.nii.gz o.nii.gz",
        r"page.nii.gz: not a NIfTI file .*: its name or its content is wrong",
        "translate-volume page.nii.gz o.nii.gz",
        before=lambda: text("page.nii.gz", "<html>sign in</html>"),
        by_hand=lambda found: shutil.copy("in.nii.gz", "page.nii.gz"),
    ),
    # outputs
    "an output that exists": Mistake(
        "translate-volume in.nii.gz o.nii.gz",
        r"o.nii.gz exists: .*(--overwrite)",
        "translate-volume in.nii.gz o.nii.gz {1}",
        before=lambda: text("o.nii.gz", "result of last year"),
    ),
    "the input as output": Mistake(
        "translate-volume in.nii.gz in.nii.gz --overwrite",
        r"in.nii.gz is the input: name another output",
        "translate-volume in.nii.gz o.nii.gz",
        2,
    ),
    "an unknown ending": Mistake(
        "translate-volume in.nii.gz o.nifti",
        r"o.nifti: its ending .*: (\.nii\.gz), ",
        "translate-volume in.nii.gz o{1}",
    ),
    "DICOM from NIfTI": Mistake(
        "translate-volume ct.nii.gz series-out --model ct-model",
        r"(--dicom-template)",
        "translate-volume ct.nii.gz series-out --model ct-model {1} template",
        before=lambda: write_series("template"),
    ),
    "a folder that is a file": Mistake(
        "translate-volume in.nii.gz notes/o.nii.gz",
        r"notes is not a folder.*choose another output",
        "translate-volume in.nii.gz o.nii.gz",
        before=lambda: text("notes", ""),
    ),
    "a read-only folder": Mistake(
        "translate-volume in.nii.gz locked/o.nii.gz",
        r"locked is not writable, .*: choose another output",
        "translate-volume in.nii.gz o.nii.gz",
        before=lambda: Path("locked").mkdir(0o500),
    ),
    "a full disk": Mistake(
        "translate-volume in.nii.gz full/o.nii.gz",
        r"more than full has left: free that much, or choose another output",
        "translate-volume in.nii.gz o.nii.gz",
        before=small_disk,
        undo=lambda: subprocess.run(["umount", "full"], check=True),
    ),
    "a file larger than the quota": Mistake(
        "translate-volume in.nii.gz o.nii.gz",
        r"cannot be written: File too large: raise the limit of file sizes",
        "translate-volume in.nii.gz o.nii.gz",
        before=lambda: largest_file(2000),
        by_hand=lambda found: largest_file(None),
        undo=lambda: largest_file(None),
    ),
    # tables
    "scoring without a reference": Mistake(
        "evaluate in.nii.gz",
        r"REFERENCE",
        "evaluate in.nii.gz in.nii.gz",
        2,
    ),
    "features of paired sets": Mistake(
        "evaluate in.nii.gz in.nii.gz --features a.npy b.npy",
        r"add (--unpaired), or leave out --features",
        "evaluate in.nii.gz in.nii.gz",
        2,
    ),
    "ONNX options for a bundle": Mistake(
        "export --format monai-bundle --compare in.nii.gz",
        r"--compare is only for --format onnx: leave it out",
        "export --format monai-bundle",
        2,
    ),
    "a series that is not there": Mistake(
        "translate-volume series o.nii.gz --model ct-model --series 1.2.3",
        r"1.2.3.*?(1\.2\.826[\d.]*)",
        "translate-volume series o.nii.gz --model ct-model --series {1}",
        before=lambda: write_series("series"),
    ),
}


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


def run(command: str) -> tuple[int, str]:
    """Return the exit code of a command and its messages, one of which begins with ``Error`` if it failed."""
    result = CliRunner().invoke(main, shlex.split(command))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == (result.exit_code != 0), result.output
    return result.exit_code, "\n".join(errors) if "reasons above" not in result.stderr else result.stderr


def forbid_locked_folders(monkeypatch) -> None:
    """Let no process write into a folder whose mode forbids it, not even one of root."""
    allowed = os.access

    def access(path, mode, **options):
        locked = mode & os.W_OK and Path(path).is_dir() and not Path(path).stat().st_mode & 0o200
        return not locked and allowed(path, mode, **options)

    monkeypatch.setattr(os, "access", access)


def largest_file(size: int | None) -> None:
    """Limit the size of files that this process writes; None: no limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def test_there_are_forty():
    assert len(MISTAKES) >= 40
