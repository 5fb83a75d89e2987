"""The model card describes the model's record and lists what the record lacks."""

import dataclasses
import json

from support.models import fit_for, tiny_model, with_fitness

from medcyclegan.model.card import model_card
from medcyclegan.model.fitness import ModelWarning

SECTIONS = [
    "# ct to mr and back", "## Intended use and limitations", "## Training data", "## How volumes are prepared",
    "## Networks and training", "## Fitness", "## Scores", "## Use",
]  # fmt: skip


def card_of(folder):
    return (folder / "MODEL_CARD.md").read_text()


def test_every_model_has_a_card_that_follows_from_its_record(tmp_path):
    folder = tiny_model().save(tmp_path / "model")
    card = card_of(folder)
    record = json.loads((folder / "model.json").read_text())
    assert [line for line in card.splitlines() if line.startswith("#")] == SECTIONS
    assert record["fingerprint"] in card
    assert "ct from -1024 to 3071 HU" in card
    assert "pixels of 4 mm and padded to 32 x 32" in card
    assert "Not a medical device" in card
    assert card == model_card(record)


def test_a_card_describes_the_training(tmp_path):
    known = {"volumes": 3, "pixel_mm": [0.5, 1.0], "slice_mm": [3.0, 3.0], "acquisitions": {"axial": 2, "sagittal": 1}}
    provenance = {
        "training_volumes": {"ct": 3, "mr": 4}, "training_slices": {"ct": 30, "mr": 44}, "training_set": {"ct": known},
        "steps": 90, "planned_steps": 100, "precision": "fp32", "config": {"seed": 5, "losses": {"cycle_weight": 10.0}},
    }  # fmt: skip
    drift = ModelWarning("displacement", "mr", 80, "anatomy drifts: try something")
    scores = {"scores": {"cycle_A": 0.1, "mae_AB": 0.25}, "input_scores": {"mae_AB": 0.5}}
    provenance["fitness"] = fit_for(tiny_model(), steps=190, warnings=(drift,), **scores).to_dict()
    card = card_of(dataclasses.replace(tiny_model(), provenance=provenance).save(tmp_path / "model"))
    assert (
        "- ct: 30 slices of 3 volumes; pixel size 0.5 to 1 mm, slice spacing 3 to 3 mm; acquired 2 axial, 1 sagittal"
        in card
    )
    assert "- mr: 44 slices of 4 volumes\n" in card
    assert "- losses: cycle weight 10.0" in card
    assert "- steps: 90 of 100, seed 5, precision fp32" in card
    assert "- steps behind these weights: 190" in card
    assert "- patients trained on: 12 of ct, 12 of mr" in card
    assert "- the cycle restores more than a constant image does: yes" in card
    assert "- **warning from step 80, still active**: anatomy drifts: try something" in card
    assert "none" not in card
    assert "- cycle A: 0.1\n- mae AB: 0.25 (0.5)" in card


def test_a_card_describes_how_patients_were_identified(tmp_path):
    known = {"splits": {"train": 9, "validation": 1, "test": 2}, "sources": {"PatientID": 14, "same image": 1}}
    guessed = {"splits": {"train": 3, "validation": 0, "test": 0}, "sources": {"name": 4}}
    for patients, warned in (({"ct": known, "mr": known}, False), ({"ct": known, "mr": guessed}, True)):
        bundle = dataclasses.replace(tiny_model(), provenance={"patients": patients})
        card = card_of(bundle.save(tmp_path / "model", overwrite=True))
        assert (
            "- patients of ct: 9 for training, 1 for validation, 2 for testing; identified: from DICOM PatientID "
            "(14 volumes), from the image, which is (nearly) the same as one with another name (1 volume)\n"
        ) in card
        assert ("if it is wrong, a patient may be in two splits" in card) == warned
    assert (
        "- patients of mr: 3 for training, 0 for validation, 0 for testing; identified: guessed from the name" in card
    )


def test_what_is_not_recorded_is_called_so(tmp_path):
    card = card_of(dataclasses.replace(tiny_model(), provenance={}).save(tmp_path / "model"))
    assert "- steps: not recorded of not recorded" in card
    assert "None recorded. Evaluate the model" in card
    assert "- patients of ct: how they were identified is not recorded" in card
    assert "Not recorded: no translation by this model gets the verdict `ok`." in card


def test_the_card_states_that_there_are_no_warnings_or_scores(tmp_path):
    card = card_of(with_fitness(tiny_model()).save(tmp_path / "model"))
    assert "- active warnings: none" in card
    assert "None recorded. Evaluate the model" in card
