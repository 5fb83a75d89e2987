"""The card says what the model's record says, and what it does not say."""

import dataclasses
import json

from support.models import tiny_model

from medcyclegan.model.card import model_card

SECTIONS = [
    "# ct to mr and back", "## Intended use, and what it is not for", "## Training data", "## How volumes are prepared",
    "## Networks and training", "## Scores", "## Use",
]  # fmt: skip


def card_of(folder):
    return (folder / "MODEL_CARD.md").read_text()


def test_a_card_lies_beside_every_model_and_is_made_of_its_record(tmp_path):
    folder = tiny_model().save(tmp_path / "model")
    card = card_of(folder)
    record = json.loads((folder / "model.json").read_text())
    assert [line for line in card.splitlines() if line.startswith("#")] == SECTIONS
    assert record["fingerprint"] in card
    assert "ct from -1024 to 3071 HU" in card
    assert "pixels of 4 mm and padded to 32 x 32" in card
    assert "Not a medical device" in card
    assert card == model_card(record)


def test_a_card_tells_of_the_training(tmp_path):
    known = {"volumes": 3, "pixel_mm": [0.5, 1.0], "slice_mm": [3.0, 3.0], "acquisitions": {"axial": 2, "sagittal": 1}}
    provenance = {
        "training_volumes": {"ct": 3, "mr": 4}, "training_slices": {"ct": 30, "mr": 44}, "training_set": {"ct": known},
        "steps": 90, "planned_steps": 100, "precision": "fp32", "config": {"seed": 5, "losses": {"cycle_weight": 10.0}},
        "validation": {"cycle_A": 0.1},
    }  # fmt: skip
    card = card_of(dataclasses.replace(tiny_model(), provenance=provenance).save(tmp_path / "model"))
    assert (
        "- ct: 30 slices of 3 volumes; pixels of 0.5 to 1 mm, slices 3 to 3 mm apart; acquired 2 axial, 1 sagittal"
        in card
    )
    assert "- mr: 44 slices of 4 volumes\n" in card
    assert "- losses: cycle weight 10.0" in card
    assert "- steps: 90 of 100, seed 5, precision fp32" in card
    assert "- cycle A: 0.1" in card


def test_what_is_not_recorded_is_called_so(tmp_path):
    card = card_of(dataclasses.replace(tiny_model(), provenance={}).save(tmp_path / "model"))
    assert "- steps: not recorded of not recorded" in card
    assert "None are recorded with the model" in card
