"""The training stages of real_heads.py, and the subjects they are trained on."""

from pathlib import Path

from medcyclegan import slice_volumes, train
from medcyclegan.config import load_config

#: Subjects to train on, with all their visits, and the subject to score. STAGES and real_heads.yaml were chosen by the
#: scores of "skull" and "brain". "-fresh" trains on the subject that these score, and scores one whose scores were not
#: used to choose anything: report these figures.
SPLITS = {
    "skull": (["openms_patient03", "openms_patient12"], "openms_patient04"),
    "brain": (["openms_mni07", "cstar_stroke_coreg"], "openms_mni19"),
    "skull-fresh": (["openms_patient04", "openms_patient12"], "openms_patient03"),
    "brain-fresh": (["openms_mni19", "cstar_stroke_coreg"], "openms_mni07"),
}
#: Pixel size in mm, slice size in pixels, steps and learning rate of each stage. Each stage starts with the generators
#: of the previous one. Large pixels determine the contrast, small ones add detail.
STAGES = {
    "skull": [(2.5, 96, 3500, 5e-4), (1.5, 160, 1500, 3e-4)],
    "brain": [(2.0, 96, 2800, 5e-4), (1.5, 128, 3000, 3e-4), (1.0, 192, 3000, 3e-4)],
}


def train_stages(volumes: Path, split: str, out: Path, settings: list[str]) -> Path:
    """Slice and train stage by stage, each in a separate folder in ``out``; return the folder of the last model."""
    model = None
    for number, (pixel_mm, size, steps, rate) in enumerate(STAGES[split.removesuffix("-fresh")]):
        stage = [f"slicing.pixel_mm={pixel_mm}", f"slicing.size={size}"]
        stage += [f"training.max_steps={steps}", f"training.learning_rate={rate}"]
        config = load_config(Path(__file__).with_name("real_heads.yaml"), [*stage, *settings])
        folder = out / f"stage{number + 1}"
        slice_volumes(volumes, folder / "slices", config=config)
        model = train(folder / "slices", config=config, out=folder / "runs", init_from=model) / "model"
    return model
