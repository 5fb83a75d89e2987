"""Mistakes in files, folders and their order (see :mod:`support.mistakes`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.mistakes import (
    SLICE,
    TRAIN,
    Mistake,
    cut_short,
    four_dimensions,
    largest_file,
    one_domain,
    run,
    small_disk,
    text,
    third_domain,
    two_series,
    with_nan,
    without_axes,
    write_series,
)

#: Name of the mistake -> what happens.
MISTAKES = {
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
