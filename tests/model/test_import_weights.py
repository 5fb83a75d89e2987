"""``import-weights`` builds a model folder from .pth files and requires what they do not record."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from model.test_public_weights import PublicResnet, PublicUnet, initialised, noise
from support.phantoms import head_ct

from medcyclegan import ModelBundle, translate_volume
from medcyclegan.cli.main import main


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    paths = []
    for seed, name in enumerate(("latest_net_G_A.pth", "latest_net_G_B.pth")):
        paths.append(str(tmp_path / name))
        torch.save(initialised(PublicResnet(4, 6), seed).state_dict(), paths[-1])
    return paths[0], paths[1]


RANGES = ("--range", "ct", "-1000", "2000", "--range", "mr", "0", "900")


def run(files, tmp_path, *options, domains=("ct", "mr")):
    arguments = ["import-weights", *files, "--domains", *domains, "--out", str(tmp_path / "model"), *options]
    return CliRunner().invoke(main, arguments)


def test_the_folder_translates_as_those_networks_do(files, tmp_path) -> None:
    result = run(files, tmp_path, *RANGES, "--fit", "stretch", "--size", "64")
    assert result.exit_code == 0, result.output
    bundle = ModelBundle.load(result.stdout.strip())
    with torch.no_grad():
        for seed, name in enumerate(("G_AB", "G_BA")):
            expected = initialised(PublicResnet(4, 6), seed)(noise(64))
            torch.testing.assert_close(bundle.build(name)(noise(64)), expected, rtol=0, atol=1e-5)
    ct, mr = bundle.domains
    assert (ct.modality, ct.scaling.lower, ct.scaling.upper, ct.input_scaling.window_hu) == (
        "CT",
        -1000,
        2000,
        (-1000, 2000),
    )
    assert (mr.modality, mr.scaling.kind, mr.scaling.upper) == ("MR", "percentile", 900)
    assert bundle.preparation.fit == "stretch"
    assert str(tmp_path) not in json.dumps(dict(bundle.provenance))
    assert translate_volume(head_ct(), bundle, "mr", device="cpu").array.max() <= 900


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RANGES, "--fit is missing"),
        ((*RANGES, "--fit", "physical"), "--pixel-mm is missing"),
        (("--fit", "stretch", *RANGES[:4]), "--range mr LOWER UPPER is missing"),
        (("--fit", "stretch", *RANGES[4:]), r"--range ct LOWER UPPER is missing: the values \(HU\)"),
        (("--fit", "physical", "--pixel-mm", "0", *RANGES), "slicing.pixel_mm = 0"),
        (("--fit", "physical", "--pixel-mm", "1", "--size", "33", *RANGES), "slicing.size = 33"),
        (("--fit", "stretch", "--pixel-mm", "1", *RANGES), "--pixel-mm with --fit stretch"),
        (("--fit", "stretch", *RANGES, "--range", "pet", "0", "1"), "--range pet: not one of the --domains ct mr"),
    ],
)
def test_missing_information_is_requested(files, tmp_path, options, message) -> None:
    import re

    result = run(files, tmp_path, *options)
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert not (tmp_path / "model").exists()


def test_a_configuration_can_supply_it_too(files, tmp_path) -> None:
    (tmp_path / "made.yaml").write_text(
        "slicing: {size: 64, fit: physical, pixel_mm: 2.0}\ndomains: {ct: {scaling: {window_hu: [-200, 300]}}}\n"
    )
    result = run(files, tmp_path, "--config", str(tmp_path / "made.yaml"), *RANGES[4:])
    assert result.exit_code == 0, result.output
    bundle = ModelBundle.load(tmp_path / "model")
    assert bundle.domains[0].scaling.lower == -200
    assert (bundle.preparation.size, bundle.preparation.pixel_mm) == (64, 2.0)


def spoil(path: str, value: object) -> None:
    torch.save(value, path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (initialised(PublicResnet(2, 6)).state_dict(), "or their blocks differ"),
        (PublicUnet(2, 7).state_dict(), "or their blocks differ"),
        ([torch.ones(2)], "is not a state dict"),
        (Path("x"), "cannot be read as weights only"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, tmp_path, value, message) -> None:
    spoil(files[1], value)
    result = run(files, tmp_path, *RANGES, "--fit", "stretch", "--size", "64")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_refusal_of_a_unet_names_its_size(files, tmp_path) -> None:
    for path in files:
        spoil(path, PublicUnet(2, 7).state_dict())
    result = run(files, tmp_path, *RANGES, "--fit", "stretch")
    assert "a unet with 7 levels, for slices of 128 pixels: set --size" in result.output


def test_no_code_runs_from_a_file(files, tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    Path(files[0]).write_bytes(pickle.dumps(Bomb()))
    result = run(files, tmp_path, *RANGES, "--fit", "stretch")
    assert result.exit_code == 1
    assert not (tmp_path / "exploded").exists()
