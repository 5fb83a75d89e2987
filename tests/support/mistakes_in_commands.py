"""Mistakes in names, words and options (see :mod:`support.mistakes`)."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.mistakes import (
    PLACE,
    SHAPE,
    SLICE,
    TRAIN,
    Mistake,
    hu_volumes,
    mixed_domain,
    text,
)
from support.phantoms import head_mr, write_nifti

from medcyclegan.io import write_volume
from medcyclegan.volume import Volume

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
        "models head-t1", r"head-t1: not a shipped model: name one of .*?(head-[^,\s]+),", "models {1}", 2
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
}
