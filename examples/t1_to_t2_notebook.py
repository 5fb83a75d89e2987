# %% [markdown]
# # T1 to T2, from your own scans
#
# Run this notebook cell by cell (VS Code, Jupyter with jupytext, Spyder) or as a script:
#
#     T1T2_DATA=scans T1T2_WORK=work python examples/t1_to_t2_notebook.py
#
# `scans` contains one folder per patient with `t1*.nii.gz` and `t2*.nii.gz`; other sequences are ignored. Scans need
# not be registered, and patients need not have both contrasts. Openly licensed scans to start with: the MS patients of
# the University of Ljubljana (Lesjak et al., Neuroinformatics 2018, CC BY; on GitHub as `muschellij2/open_ms_data`).

# %%
import os
from pathlib import Path

from medcyclegan import ModelBundle, evaluate_volumes, read_volume, slice_volumes, train, translate_volume, write_volume
from medcyclegan.config import load_config
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.report import write_report

DATA = Path(os.environ.get("T1T2_DATA", "scans"))
WORK = Path(os.environ.get("T1T2_WORK", "work"))
CONFIG = os.environ.get("T1T2_CONFIG", "t1-t2")  # smoke: only tests that it runs; demo: minutes on a CPU

# %% [markdown]
# ## Hold out one patient
# Hold out all visits in both contrasts: results on patients of the training set do not show how a new patient fares.

# %%
patients = sorted(folder.name for folder in DATA.iterdir() if folder.is_dir())
held_out = patients[-1]
for patient in patients[:-1]:
    for contrast in ("t1", "t2"):
        for scan in sorted((DATA / patient).glob(f"{contrast}*.nii*")):
            link = WORK / "volumes" / contrast / patient / scan.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(scan.resolve())
print(f"trained on: {', '.join(patients[:-1])}; held out: {held_out}")

# %% [markdown]
# ## Slices
# Before training, look at `slices/t1.png` and `slices/t2.png`: is every head complete, upright and of the same size?

# %%
config = load_config(CONFIG)
sliced = slice_volumes(WORK / "volumes", WORK / "slices", config=config)
print(f"{len(sliced.sliced) + len(sliced.finished)} volumes, {len(sliced.refused)} refused")

# %% [markdown]
# ## Training
# After an interruption, `train(resume=True, out=...)` continues. `runs/latest/panels/` shows progress on two slices.

# %%
run = train(WORK / "slices", config=config, out=WORK / "runs")
write_report(run)

# %% [markdown]
# ## Translate the held-out patient

# %%
t1 = read_volume(next((DATA / held_out).glob("t1*.nii*")))
fake_t2 = translate_volume(t1, ModelBundle.load(run / "model"), to="t2")
write_volume(fake_t2, WORK / "synthetic_t2.nii.gz")
(WORK / "synthetic_t2.png").write_bytes(png_bytes(preview({"T1": t1, "synthetic T2": fake_t2})))

# %% [markdown]
# ## How good is it?
# The true T2 has another grid, so the synthetic one is resampled to it by the scanner coordinates. Use
# `register="rigid"` if the patient moved. The second column is the score of the T1 itself, which a model should beat.

# %%
true_t2 = next((DATA / held_out).glob("t2*.nii*"), None)
if true_t2 is not None:
    scores = evaluate_volumes(fake_t2, read_volume(true_t2).replace(modality="MR"), baseline=t1)
    for name in ("mae", "psnr", "ms_ssim", "ncc"):
        print(f"{name:8} {getattr(scores, name):8.3f}   T1 as it is {getattr(scores.baseline, name):8.3f}")
    for note in scores.notes:
        print(note)
