"""Train the models that come with the package, and put them into it.

    python pipelines/shipped_models.py train LABELS OUT [--model NAME]... [--device cuda]
    python pipelines/shipped_models.py adapt SCANS OUT [--model NAME]... [--device cuda]
    python tests/benchmarks/shipped_models.py LABELS SCORES --real SCANS --model NAME=OUT/NAME/final ...
    python pipelines/shipped_models.py install OUT SCORES/scores.json [--model NAME]...
    python pipelines/calibration_cases.py LABELS/seg_03.nii.gz LABELS/seg_08.nii.gz --out CASES
    python pipelines/shipped_models.py calibrate CASES [--model NAME]...

LABELS is a folder with the label maps of SynthSeg's training heads. The maps that the benchmark scores are left out. A
training that was interrupted is resumed, a finished one is left alone. OUT/NAME/mean has the mean of the weights before
and after the last stages, which scored better than either (Wortsman et al. 2022, arXiv 2109.01903). ``adapt`` continues
it on unpaired slices of real scans (SCANS: the scans of docs/results.md), and writes the mean of the weights before and
after that to OUT/NAME/final; a model that has no real scans is copied. ``install`` halves the precision of the weights
and writes ``medcyclegan/model/shipped/NAME``, with the benchmark's scores in its model card. ``calibrate`` calibrates
both directions of the installed models; the maps of CASES must not be those on which the calibration is tested.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medcyclegan import slice_volumes, train
from medcyclegan.config import load_config
from medcyclegan.evaluation import CalibrationOptions, calibrate_model
from medcyclegan.model import ModelBundle
from medcyclegan.model.shipped import SHIPPED
from medcyclegan.training.pretraining.pretrain import PretrainingData, pretrain

#: The label maps that tests/benchmarks/shipped_models.py scores.
LEFT_OUT = ("seg_03", "seg_08", "seg_14", "seg_20")
SOURCE = (
    "Billot et al. 2023, Med Image Anal 86:102789: label maps of whole heads from SynthSeg's training set (Apache-2.0)"
)
NOT_FOR = (
    "diagnosis, or anything other than research: every output is synthetic",
    "scans that show no head, children, implants, or contrasts other than those named",
    "lesions: some kinds are weakened, lost or inverted (see the page of results)",
)

#: Further limits of single models.
LIMITS = {"head-t2-ct": ("T2 in which the scalp is nearly black, as with strong fat suppression: the skull is lost",)}

#: Settings of stages. Each stage starts from the model of the previous one.
COARSE = ("slicing.pixel_mm=2", "slicing.size=128", "training.batch_size=4", "training.max_steps=4000")
FINE = ("training.learning_rate=0.0003",)
SOME_EXTRACTED, EXTRACTED = "pretraining.extracted_fraction=0.2", "pretraining.extracted_fraction=1"
#: A further stage: other patients, and more of them with lesions.
MORE = (*FINE, "seed=1", "pretraining.lesion_fraction=0.9", "validation.every_steps=500", "training.max_steps=4000")
#: In the last two stages, lesions weigh more than their few pixels.
LESIONS = ("pretraining.lesion_fraction=0.8", "pretraining.lesion_weight=10")
#: A stage for a GPU: on CPU cores it would take hours.
LONG = (
    *LESIONS,
    "seed=2",
    "training.batch_size=16",
    "training.schedule=constant",
    "training.compile=off",
    "validation.every_steps=2000",
    "pretraining.slices_per_patient=128",
    "pretraining.patients_at_once=16",
    "training.max_steps=881",
)
#: The last stage, in which the learning rate falls to 0.
LAST = (
    *FINE,
    *LESIONS,
    "seed=3",
    "training.ema_decay=0.995",
    "validation.every_steps=600",
    "training.max_steps=600",
)
#: Title, the domains A and B, the stages (the suffix of the folder and the settings), and the model that the first of
#: them continues: its stage of the same suffix, or its mean. In the order of training.
TRAININGS = {
    "head-t1-t2": (
        "T1 and T2 of heads with skull",
        ("t1", "t2"),
        {
            "-coarse": (*COARSE, SOME_EXTRACTED),
            "-fine": (*FINE, SOME_EXTRACTED),
            "-more": MORE,
            "-long": LONG,
            "": LAST,
        },
        None,
    ),
    "head-t1-ct": ("T1 and CT of heads", ("t1", "ct"), {"-coarse": COARSE, "": FINE}, None),
    "brain-t1-t2": (
        "T1 and T2 of extracted brains",
        ("t1", "t2"),
        {"": (*MORE, EXTRACTED, "training.max_steps=2500")},
        "head-t1-t2",
    ),
    "head-t2-ct": (
        "T2 and CT of heads",
        ("t2", "ct"),
        {
            "-coarse": (*COARSE, "seed=4", "pretraining.lesion_fraction=0.3", "training.max_steps=5000"),
            "": (*FINE, "seed=5", "pretraining.lesion_fraction=0.5", "training.ema_decay=0.995"),
        },
        "head-t1-ct",
    ),
}
#: The stages whose models' weights are averaged, if that is not the last stage alone.
MEANS = {"head-t1-t2": ("-more", "")}
OPENMS = "MS patients of the University Medical Centre Ljubljana (CC BY; Lesjak et al. 2018, Neuroinformatics 16:51)"
#: Real subjects with T1 and T2 on whom a model continued, and their source. The test subjects are not among them.
REAL = {
    "head-t1-t2": (("openms_patient03", "openms_patient12"), OPENMS),
    "brain-t1-t2": (
        ("openms_mni07", "cstar_stroke_coreg"),
        f"{OPENMS}; stroke patient of the Center for the Study of Aphasia Recovery (MIT license)",
    ),
}
#: Settings of the training on real scans.
UNPAIRED = ("training.max_steps=800",)


def main() -> int:
    """Train or install the models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("labels", type=Path)
    training.add_argument("out", type=Path)
    adapting = commands.add_parser("adapt")
    adapting.add_argument("scans", type=Path)
    adapting.add_argument("out", type=Path)
    for command in (training, adapting):
        command.add_argument("--device", default="auto")
    install = commands.add_parser("install")
    install.add_argument("out", type=Path)
    install.add_argument("scores", type=Path)
    calibrating = commands.add_parser("calibrate")
    calibrating.add_argument("cases", type=Path)
    for command in (training, adapting, install, calibrating):
        command.add_argument("--model", action="append", choices=list(TRAININGS), help="default: all")
    arguments = parser.parse_args()
    for name in arguments.model or TRAININGS:
        if arguments.command == "calibrate":
            calibrate(name, arguments.cases)
        elif arguments.command == "train":
            train_model(name, arguments.labels, arguments.out, arguments.device)
        elif arguments.command == "adapt":
            adapt_model(name, arguments.scans, arguments.out, arguments.device)
        else:
            install_model(name, arguments.out, json.loads(arguments.scores.read_text("utf-8")))
    return 0


def train_model(name: str, labels: Path, out: Path, device: str) -> None:
    """Train one model, or continue its training; it is then ``out/NAME/mean``."""
    _, domains, stages, first = TRAININGS[name]
    maps = tuple(path for path in sorted(labels.glob("*.nii.gz")) if path.name.split(".")[0] not in LEFT_OUT)
    data = PretrainingData(labels=maps, domains=domains)
    start = None if first is None else start_of(out, first, next(iter(stages)))
    for suffix, settings in stages.items():
        folder = name + suffix
        if (out / folder / "latest").exists():
            pretrain(out=out / folder, resume=True, device=device)
        else:
            config = load_config("pretrain", list(settings))
            pretrain(data, config=config, out=out / folder, device=device, init_from=start)
        start = last_model(out, folder)
    if not (out / name / "mean").exists():
        models = [ModelBundle.load(last_model(out, name + suffix)) for suffix in MEANS.get(name, ("",))]
        mean_of(models).save(out / name / "mean")


def start_of(out: Path, first: str, suffix: str) -> Path:
    """Return the folder of the model ``first`` from which a stage with this suffix starts."""
    return last_model(out, first + suffix) if suffix else out / first / "mean"


def adapt_model(name: str, scans: Path, out: Path, device: str) -> None:
    """Continue one model on unpaired slices of real scans, or finish such a training; it is then ``out/NAME/final``."""
    final, folder = ModelBundle.load(out / name / "mean"), out / f"{name}-real"
    if name in REAL:
        config = load_config("cpu", list(UNPAIRED))
        link_scans(scans, REAL[name][0], TRAININGS[name][1], folder / "volumes")
        slice_volumes(folder / "volumes", folder / "slices", config=config)
        if not (folder / "latest").exists():
            train(folder / "slices", config=config, out=folder, device=device, init_from=out / name / "mean")
        elif not (folder / "latest" / "model").exists():
            train(out=folder, resume=folder / "latest", device=device)
        continued = ModelBundle.load(folder / "latest" / "model")
        final = with_real_scans(mean_of([continued, final]), continued.provenance)
    if not (out / name / "final").exists():
        final.save(out / name / "final")


def with_real_scans(model: ModelBundle, continued: Mapping[str, Any]) -> ModelBundle:
    """Return ``model`` with what its card says about real scans, from the provenance of the training on them."""
    provenance = dict(model.provenance)
    provenance["real_scans"] = {
        "steps": continued["steps"],
        "patients": continued["fitness"]["patients"],
        "slices": continued["training_slices"],
    }
    provenance["fitness"] = {**provenance["fitness"], "steps": continued["fitness"]["steps"]}
    return dataclasses.replace(model, provenance=provenance)


def link_scans(scans: Path, subjects: tuple[str, ...], domains: tuple[str, str], volumes: Path) -> None:
    """Link the first visit of each subject, and the second if it has both contrasts, below ``volumes``/DOMAIN."""
    for subject in subjects:
        for session, visit in enumerate(("", "_visit2"), 1):
            files = {domain: scans / subject / f"{domain}{visit}.nii.gz" for domain in domains}
            if session > 1 and not all(file.is_file() for file in files.values()):
                continue
            for domain, file in files.items():
                link = volumes / domain / f"sub-{subject.replace('_', '')}_ses-{session}.nii.gz"
                link.parent.mkdir(parents=True, exist_ok=True)
                if not link.is_symlink():
                    link.symlink_to(file.resolve())


def mean_of(models: list[ModelBundle]) -> ModelBundle:
    """Return the last of ``models`` with the mean of the weights of all, without the scores of its own weights."""
    if len(models) == 1:
        return models[0]
    weights = {
        generator: {key: sum(model.weights[generator][key].float() for model in models) / len(models) for key in layers}
        for generator, layers in models[-1].weights.items()
    }
    provenance = dict(models[-1].provenance)
    provenance["fitness"] = {**provenance["fitness"], "scores": {}, "input_scores": {}}
    return dataclasses.replace(models[-1], weights=weights, provenance=provenance)


def calibrate(name: str, cases: Path) -> None:
    """Calibrate both directions of an installed model; skip a model that is not installed."""
    if not (SHIPPED / name).is_dir():
        return
    a, b = TRAININGS[name][1]
    for source, target in ((a, b), (b, a)):
        options = CalibrationOptions(to=target, overwrite=True)
        print(*calibrate_model(SHIPPED / name, cases / f"{source}-to-{target}.csv", options))


def last_model(out: Path, folder: str) -> Path:
    """Return the folder of the model after the last step of a training."""
    return out / folder / "latest" / "model-last"


def install_model(name: str, out: Path, scores: list[dict[str, object]]) -> None:
    """Write the model into the package, with half the precision and the scores of the benchmark."""
    stages = [ModelBundle.load(last_model(out, name + suffix)) for suffix in TRAININGS[name][2]]
    trained = ModelBundle.load(out / name / "final")
    provenance = {**trained.provenance, "shipped": describe(name, stages, scores)}
    halved = dataclasses.replace(trained.halved(), provenance=provenance)
    with tempfile.TemporaryDirectory(dir=SHIPPED.parent) as folder:
        files = halved.save(Path(folder) / name)
        target = SHIPPED / name
        target.mkdir(parents=True, exist_ok=True)
        for calibration in target.glob("calibration_*"):  # of other weights
            calibration.unlink()
        for file in files.iterdir():
            file.replace(target / file.name)


def describe(name: str, stages: list[ModelBundle], scores: list[dict[str, object]]) -> dict[str, object]:
    """Return what ``medcyclegan models`` and the model card say about a shipped model; ``stages``: its models."""
    patients: dict[int, int] = {}
    for provenance in (model.provenance for model in stages):
        # Stages with the same seed generate the same patients.
        seed, count = provenance["config"]["seed"], provenance["pairs"]["patients"]
        patients[seed] = max(patients.get(seed, 0), count)
    maps = stages[-1].provenance["pairs"]["label_maps"]
    trained_on = [f"{sum(patients.values())} synthetic patients, generated from {maps} label maps", SOURCE]
    if name in REAL:
        subjects, source = REAL[name]
        trained_on.append(f"then unpaired T1 and T2 scans of {len(subjects)} real subjects: {source}")
    else:
        trained_on[0] += "; no scan of a person"
    title, _, _, start = TRAININGS[name]
    if start is not None:
        trained_on.insert(0, f"starts from {start}")
    if name in MEANS or name in REAL:
        trained_on.append("the weights are the mean of those before and after the last stages")
    measured = [line(row) for row in scores if row["model"] == name and "scores" in row]
    if not measured:
        raise SystemExit(f"the scores hold none of {name}: run the benchmark with --model {name}=FOLDER")
    return {"title": title, "trained_on": trained_on, "measured": measured, "limits": [*NOT_FOR, *LIMITS.get(name, ())]}


def line(row: dict[str, object]) -> str:
    """Return one line with the scores of a direction, and those of the baseline in parentheses."""
    where = (
        f"on {row['on']}, {row['region']}" if "on" in row else f"{row['heads']} synthetic heads of unseen label maps"
    )
    scores = row["scores"]
    hu = str(row["direction"]).endswith("ct") and "on" not in row
    mae, given = scores["mae"]
    errors = (
        f"MAE {mae:.0f} HU (water: {given:.0f})"
        if hu
        else f"PSNR {scores['psnr'][0]:.1f} dB (input: "
        + (f"{scores['psnr'][1]:.1f}), SSIM {scores['ssim'][0]:.2f} ({scores['ssim'][1]:.2f})")
    )
    return f"{row['direction']}, {where}: {errors}"


if __name__ == "__main__":
    sys.exit(main())
