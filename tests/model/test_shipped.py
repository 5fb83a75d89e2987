"""The models that come with the package: found by name, listed, and suggested."""

import dataclasses
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support.models import CT_DOMAIN, MR, tiny_model, with_fitness
from support.phantoms import head_ct, head_mr, make_affine

from medcyclegan import translate_volume
from medcyclegan.cli import main
from medcyclegan.errors import ModelError
from medcyclegan.inference.default_model import DEFAULT_MODEL, load_or_suggest
from medcyclegan.io import ReadOptions, write_volume
from medcyclegan.io.inspect import inspect_paths
from medcyclegan.model import DomainModel, ModelBundle, shipped

ABOUT = {
    "title": "T1 and CT of heads",
    "trained_on": ["9 synthetic patients"],
    "measured": ["t1 to ct: MAE 50 HU"],
    "limits": ["diagnosis"],
}
T1, T2 = (DomainModel(name, "MR", MR) for name in ("t1", "t2"))


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Ship two untrained models."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(shipped, "SHIPPED", folder)
    for name, a, b in (("head-t1-ct", T1, CT_DOMAIN), ("head-t1-t2", T1, T2)):
        dataclasses.replace(tiny_model(a, b), provenance={"shipped": ABOUT}).save(folder / name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


def run(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


class TestModelFolder:
    def test_a_name_is_a_model_folder(self, models):
        assert ModelBundle.load("head-t1-ct").fingerprint == ModelBundle.load(models / "head-t1-ct").fingerprint

    def test_a_folder_of_that_name_takes_precedence(self, models, tmp_path):
        own = tiny_model(T1, T2, size=64).save("head-t1-ct")
        assert ModelBundle.load("head-t1-ct").fingerprint == ModelBundle.load(own.resolve()).fingerprint

    @pytest.mark.parametrize("name", ["head-t1-pet", "../shipped/head-t9", "head_t1_ct"])
    def test_an_unknown_name_is_refused_with_the_remedy(self, models, name):
        with pytest.raises(ModelError, match=r"neither a folder nor a shipped model.*medcyclegan models lists"):
            ModelBundle.load(name)


class TestCommand:
    def test_it_lists_all_models(self, models):
        done = run("models")
        assert done.exit_code == 0
        lines = done.output.splitlines()
        assert [line.split(", ")[0] for line in lines if not line.startswith(" ")] == [
            "head-t1-ct  t1 to ct and back",
            "head-t1-t2  t1 to t2 and back",
        ]
        assert lines[1:4] == [
            "  trained on: 9 synthetic patients",
            "  measured:   t1 to ct: MAE 50 HU",
            "  not for:    diagnosis",
        ]

    def test_json_has_every_field(self, models):
        rows = json.loads(run("models", "--json").output)
        assert [row["name"] for row in rows] == ["head-t1-ct", "head-t1-t2"]
        assert rows[0]["domains"] == {"t1": "MR", "ct": "CT"}
        assert rows[0] | ABOUT == rows[0]

    def test_a_name_prints_the_card(self, models):
        done = run("models", "head-t1-ct")
        assert done.output == (models / "head-t1-ct" / "MODEL_CARD.md").read_text()
        for heading in ("## Sources and licenses", "## Measured on unseen heads", "## Not for"):
            assert heading in done.output

    def test_an_unknown_name_is_wrong_usage(self, models):
        done = run("models", "head")
        assert (done.exit_code, done.output) == (
            2,
            "Error: head: not a shipped model: name one of head-t1-ct, head-t1-t2\n",
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "cannot be read"),
            ("[]", "format 'list'"),
            ('{"format": 1, "domains": {}}', "does not describe a shipped model"),
        ],
    )
    @pytest.mark.parametrize(
        "command",
        [("models",), ("models", "head-t1-t2"), ("models", "--json"), ("translate-volume", "in.nii.gz", "o.nii")],
    )
    def test_a_damaged_model_is_one_line(self, models, command, text, message):
        write_volume(head_mr((24, 24, 8)), "in.nii.gz")
        (models / "head-t1-ct" / "model.json").write_text(text)
        done = run(*command)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert message in done.output
        assert "Traceback" not in done.output
        assert len(done.output.splitlines()) == 1

    def test_without_any_model_the_message_states_it(self, models):
        for folder in models.iterdir():
            (folder / "model.json").unlink()
        assert (run("models", "--json").exit_code, run("models", "--json").stdout) == (0, "[]\n")
        assert "has no shipped models" in run("models").stderr
        done = run("models", "head-t1-ct")
        assert (done.exit_code, "has no shipped models: install medcyclegan again" in done.output) == (1, True)


def test_a_model_without_scores_is_not_installed(models, tmp_path, monkeypatch):
    pipeline = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "shipped_models.py"))
    pairs = {"kind": "label maps", "patients": 9, "label_maps": 2}
    for folder, seed in (("brain-t1-t2-first", 1), ("brain-t1-t2", 2)):
        provenance = {"pairs": pairs, "config": {"seed": seed}}
        trained = dataclasses.replace(tiny_model(T1, T2), provenance=provenance)
        trained.save(tmp_path / "out" / folder / "latest" / "model-last")
    trained.save(tmp_path / "out" / "brain-t1-t2" / "final")
    title, domains, _, start = pipeline["TRAININGS"]["brain-t1-t2"]
    monkeypatch.setitem(pipeline["TRAININGS"], "brain-t1-t2", (title, domains, {"-first": (), "": ()}, start))
    monkeypatch.setitem(pipeline["install_model"].__globals__, "SHIPPED", models)
    row = {"direction": "t1 to t2", "heads": 8, "scores": {"mae": [1, 2], "psnr": [24, 20], "ssim": [0.9, 0.8]}}
    with pytest.raises(SystemExit, match="the scores hold none of brain-t1-t2"):
        pipeline["install_model"]("brain-t1-t2", tmp_path / "out", [{**row, "model": "head-t1-t2"}])
    assert not (models / "brain-t1-t2").exists()
    pipeline["install_model"]("brain-t1-t2", tmp_path / "out", [{**row, "model": "brain-t1-t2"}])
    assert shipped.shipped_models()[-1].about["measured"] == [
        "t1 to t2, 8 synthetic heads of unseen label maps: PSNR 24.0 dB (input: 20.0), SSIM 0.90 (0.80)"
    ]
    assert shipped.shipped_models()[-1].about["trained_on"][:2] == [
        "starts from head-t1-t2",
        "18 synthetic patients, generated from 2 label maps",
    ]


def test_a_coarse_stage_starts_from_the_coarse_stage_of_the_other_model(tmp_path):
    start_of = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "shipped_models.py"))["start_of"]
    assert start_of(tmp_path, "a", "-coarse") == tmp_path / "a-coarse" / "latest" / "model-last"
    assert start_of(tmp_path, "a", "") == tmp_path / "a" / "mean"


def test_a_model_that_continued_on_real_scans_records_it_and_has_the_mean_weights(tmp_path, monkeypatch):
    pipeline = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "shipped_models.py"))
    scans, out, other = tmp_path / "scans", tmp_path / "out", "neither_has_a_second_visit"
    pairs = {"kind": "label maps", "patients": 9, "label_maps": 2}
    before = with_fitness(tiny_model(T1, T2), scores={"mae_AB": 0.1})
    before = dataclasses.replace(before, provenance={**before.provenance, "pairs": pairs})
    before.save(out / "brain-t1-t2" / "mean")
    for subject, visits in (("one", ("", "_visit2")), (other, ("",))):
        for visit in visits:
            for name in ("t1", "t2"):
                write_volume(head_mr((24, 28, 8)), scans / subject / f"{name}{visit}.nii.gz")
    weights = {g: {k: v + 1 if v.is_floating_point() else v for k, v in w.items()} for g, w in before.weights.items()}

    def train(slices, *, config, out, device, init_from):
        assert len((slices / "manifest.jsonl").read_text().splitlines()) == 6
        assert (config.training.max_steps, init_from) == (800, out.parent / "brain-t1-t2" / "mean")
        after = with_fitness(dataclasses.replace(before, weights=weights), steps=807, patients={"t1": 2, "t2": 2})
        slices_of = {"steps": 800, "training_slices": {"t1": 20, "t2": 21}}
        dataclasses.replace(after, provenance={**after.provenance, **slices_of}).save(out / "latest" / "model")

    own = pipeline["adapt_model"].__globals__
    monkeypatch.setitem(own, "train", train)
    monkeypatch.setitem(own["REAL"], "brain-t1-t2", (("one", other), "somewhere"))
    for _ in range(2):  # the second time, nothing is left to do
        pipeline["adapt_model"]("brain-t1-t2", scans, out, "cpu")
    final = ModelBundle.load(out / "brain-t1-t2" / "final")
    key = next(k for k, v in before.weights["G_AB"].items() if v.is_floating_point())
    assert torch.allclose(final.weights["G_AB"][key], before.weights["G_AB"][key] + 0.5)
    fitness = final.provenance["fitness"]
    assert (fitness["steps"], fitness["scores"]) == (807, {}), "scores of other weights are left out"
    card = (out / "brain-t1-t2" / "final" / "MODEL_CARD.md").read_text()
    assert "800 steps on unpaired slices of real scans: 20 of t1 (2 patients) and 21 of t2 (2 patients)" in card
    assert "No image of a real patient" not in card


class TestSuggestions:
    @pytest.mark.parametrize(
        ("volume", "name", "fitting"),
        [
            (head_ct, "sub-1_ct.nii.gz", ["head-t1-ct"]),
            (head_mr, "in.nii.gz", ["head-t1-ct", "head-t1-t2"]),
            (head_mr, "sub-1_T2w.nii.gz", ["head-t1-t2"]),
        ],
    )
    def test_without_a_model_the_fitting_ones_are_named(self, models, volume, name, fitting, tmp_path):
        source = tmp_path / name
        write_volume(volume((24, 24, 8)), source)
        with pytest.raises(ModelError) as caught:
            load_or_suggest([DEFAULT_MODEL], source)
        assert str(caught.value).endswith(f"or use a shipped one: --model {' or --model '.join(fitting)}")

    def test_the_input_is_inspected_with_its_reading_options(self, models, tmp_path, monkeypatch):
        write_volume(head_ct((24, 24, 8)), tmp_path / "in.nii.gz")
        used, options = [], ReadOptions(max_voxels=10_000)

        def inspect(paths, reading):
            used.append(reading)
            return inspect_paths(paths, reading)

        monkeypatch.setattr("medcyclegan.inference.default_model.inspect_paths", inspect)
        with pytest.raises(ModelError, match="--model head-t1-ct"):
            load_or_suggest(DEFAULT_MODEL, tmp_path / "in.nii.gz", options)
        assert used == [options]

    @pytest.mark.parametrize(
        ("name", "fitting"),
        [
            ("subject1.nii.gz", ["head-t1-ct", "head-t1-t2"]),
            ("patient2_extracted.nii.gz", ["head-t1-ct", "head-t1-t2"]),
            ("visit2_t10.nii.gz", ["head-t1-ct", "head-t1-t2"]),
            ("sub-1_T2w.nii.gz Sag T2 FSE", ["head-t1-t2"]),
            ("3DT2 space", ["head-t1-t2"]),
            ("patient_CT1.nii.gz", ["head-t1-ct"]),
        ],
    )
    def test_a_contrast_is_a_word_of_the_name_not_part_of_one(self, models, name, fitting):
        assert shipped.fitting_models(None, name) == fitting

    def test_the_command_reports_it_in_one_line(self, models, tmp_path):
        write_volume(head_ct((24, 24, 8)), tmp_path / "ct.nii.gz")
        done = run("translate-volume", str(tmp_path / "ct.nii.gz"), "out.nii.gz")
        assert done.exit_code == 1
        assert done.output.splitlines()[-1].endswith("--model head-t1-ct")

    def test_a_shipped_model_translates(self, models, tmp_path):
        write_volume(head_mr((24, 24, 8)), tmp_path / "in.nii.gz")
        done = run("translate-volume", str(tmp_path / "in.nii.gz"), "out.nii.gz", "--model", "head-t1-t2", "--to", "t2")
        assert done.exit_code == 0, done.output


class TestInputsNamedLikeTheOutput:
    @pytest.mark.parametrize("name", ["sub-1_T2w.nii.gz", "t2.nii.gz", "brain-T2.nii.gz"])
    def test_they_need_a_direction(self, models, tmp_path, name):
        write_volume(head_mr((24, 24, 8)), tmp_path / name)
        arguments = ("translate-volume", str(tmp_path / name), "out.nii.gz", "--model", "head-t1-t2")
        refused = run(*arguments)
        assert refused.exit_code == 2
        assert refused.output.endswith(
            f"Error: {name} is t2 by its name, and so would be the output without --to: "
            "choose with --to t1 or --to t2\n"
        )
        assert not (tmp_path / "work" / "out.nii.gz").exists()
        for to in ("t1", "t2"):
            done = run(*arguments, "--to", to, "--overwrite")
            assert done.exit_code == 0, done.output

    @pytest.mark.parametrize("name", ["t1.nii.gz", "t1_on_t2.nii.gz", "patient2.nii.gz", "in.nii.gz"])
    def test_other_names_do_not(self, models, tmp_path, name):
        write_volume(head_mr((24, 24, 8)), tmp_path / name)
        done = run("translate-volume", str(tmp_path / name), "out.nii.gz", "--model", "head-t1-t2")
        assert done.exit_code == 0, done.output


class TestWhatIsShipped:
    @pytest.mark.parametrize("model", shipped.shipped_models(), ids=lambda model: model.name)
    def test_each_is_small_whole_and_described(self, model):
        bundle = ModelBundle.load(model.folder)
        assert tuple((domain.name, domain.modality) for domain in bundle.domains) == model.domains
        assert model.name.split("-") in [[part, *(name for name, _ in model.domains)] for part in ("head", "brain")]
        assert model.size_mb <= 10
        assert {value.dtype for state in bundle.weights.values() for value in state.values()} == {torch.float16}
        assert {path.name for path in model.folder.iterdir()} == {
            "G_AB.safetensors", "G_BA.safetensors", "MODEL_CARD.md", "model.json",
            "calibration_AB.safetensors", "calibration_BA.safetensors",
        }  # fmt: skip
        for key in ("trained_on", "measured", "limits"):
            assert model.about[key]
        assert any("Apache-2.0" in line for line in model.about["trained_on"])
        card = (model.folder / "MODEL_CARD.md").read_text()
        assert all(line in card for line in (*model.about["trained_on"], *model.about["measured"]))

    def test_a_head_is_translated_to_ct_in_hounsfield_units(self, tmp_path):
        head = head_mr((40, 48, 6), make_affine("LPS", (5.0, 5.0, 5.0)))
        fake = translate_volume(head, "head-t1-ct", "ct").array
        assert np.median(fake[head.array < 20]) < -900
        assert -200 < np.median(fake[head.array > 110]) < 1500
