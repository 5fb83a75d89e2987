# %% [markdown]
# # T1 to T2, from your own scans
#
# A page to go through cell by cell (VS Code, Jupyter with jupytext, Spyder), or to run whole:
#
#     T1T2_DATA=scans T1T2_WORK=work python examples/t1_to_t2_notebook.py
#
# `scans` holds a folder per patient with `t1*.nii.gz` and `t2*.nii.gz`; other sequences are left out. Nothing needs to
# be registered, or even to exist in both contrasts. Openly licensed scans to begin with: the MS patients of the
# University of Ljubljana (Lesjak et al., Neuroinformatics 2018, CC BY; on GitHub as `muschellij2/open_ms_data`).

# %%
import os
from pathlib import Path

from medcyclegan import ModelBundle, evaluate_volumes, read_volume, slice_volumes, train, translate_volume, write_volume
from medcyclegan.config import load_config
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.report import write_report

DATA = Path(os.environ.get("T1T2_DATA", "scans"))
WORK = Path(os.environ.get("T1T2_WORK", "work"))
CONFIG = os.environ.get("T1T2_CONFIG", "t1-t2")  # smoke: does it run? demo: minutes on a CPU

# %% [markdown]
# ## One patient is kept out
# All of a patient's visits, in both contrasts: a slice that was trained on says nothing about the next patient.

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
# Look at `slices/t1.png` and `slices/t2.png` before you train: is every head whole, upright, of one size?

# %%
config = load_config(CONFIG)
sliced = slice_volumes(WORK / "volumes", WORK / "slices", config=config)
print(f"{len(sliced.sliced) + len(sliced.finished)} volumes, {len(sliced.refused)} refused")

# %% [markdown]
# ## Training
# Stopped? `train(resume=True, out=...)` goes on. `runs/latest/panels/` shows how the same two slices come along.

# %%
run = train(WORK / "slices", config=config, out=WORK / "runs")
write_report(run)

# %% [markdown]
# ## The patient it has never seen

# %%
t1 = read_volume(next((DATA / held_out).glob("t1*.nii*")))
fake_t2 = translate_volume(t1, ModelBundle.load(run / "model"), to="t2")
write_volume(fake_t2, WORK / "synthetic_t2.nii.gz")
(WORK / "synthetic_t2.png").write_bytes(png_bytes(preview({"T1": t1, "synthetic T2": fake_t2})))

# %% [markdown]
# ## How good is it?
# The true T2 lies on another grid, so the synthetic one is resampled onto it; scanner positions are trusted here. Use
# `register="rigid"` where the patient moved. The second column is the score of having done nothing: beat that first.

# %%
true_t2 = next((DATA / held_out).glob("t2*.nii*"), None)
if true_t2 is not None:
    scores = evaluate_volumes(fake_t2, read_volume(true_t2).replace(modality="MR"), baseline=t1)
    for name in ("mae", "psnr", "ms_ssim", "ncc"):
        print(f"{name:8} {getattr(scores, name):8.3f}   T1 as it is {getattr(scores.baseline, name):8.3f}")
    for note in scores.notes:
        print(note)
