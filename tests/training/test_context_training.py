"""A run with neighboring slices as channels, from store to translation."""

from medcyclegan.config import parse_config
from medcyclegan.model import ModelBundle
from medcyclegan.training import train


def test_a_run_of_three_slices_gives_a_model_of_three(store, tiny, tmp_path) -> None:
    values = tiny.model_dump(mode="json")
    values["networks"]["generator"]["context_slices"] = 3
    values["training"] |= {"slices_on_device": "on", "panel_every": 2}
    run = train(store, config=parse_config(values, "test"), out=tmp_path / "runs", max_steps=2, device="cpu")
    bundle = ModelBundle.load(run / "model")
    assert bundle.generator.context_slices == 3
    assert bundle.weights["G_AB"]["down.0.weight"].shape[1] == 3
    assert bundle.build("G_AB").last[1].out_channels == 1
    assert (run / "panels" / "step-000002.png").exists()
    assert '"validation_cycle_A"' in (run / "metrics.jsonl").read_text("utf-8")
