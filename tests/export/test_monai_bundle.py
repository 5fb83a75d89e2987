import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from support.models import tiny_model
from support.phantoms import head_ct, head_mr, write_nifti

from medcyclegan.errors import WriteError
from medcyclegan.export import export_monai_bundle
from medcyclegan.inference import TranslationOptions, translate_file
from medcyclegan.model import ModelBundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return export_monai_bundle(tiny_model(), tmp_path_factory.mktemp("export") / "bundle")


def test_it_contains_what_monai_requires(bundle):
    files = sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file())
    assert files == [
        "configs/inference.json", "configs/metadata.json", "docs/README.md",
        "models/G_AB.safetensors", "models/G_BA.safetensors",
        "models/MODEL_CARD.md", "models/model.json",
    ]  # fmt: skip
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    required = {
        "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
        "task", "description", "authors", "copyright", "network_data_format",
    }  # fmt: skip
    assert required <= set(metadata)
    assert ModelBundle.load(bundle / "models").fingerprint == tiny_model().fingerprint
    readme = (bundle / "docs" / "README.md").read_text()
    assert "python -m monai.bundle run --config_file configs/inference.json" in readme
    assert "not a medical device" in readme


def run_monai(*arguments, folder):
    command = [sys.executable, "-m", "monai.bundle", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_monai_runs_it_to_the_same_bytes(bundle, tmp_path):
    source = write_nifti(head_ct(), tmp_path / "in.nii.gz")
    ours = translate_file(source, tmp_path / "ours.nii.gz", bundle / "models", TranslationOptions(to="mr"))
    theirs = tmp_path / "theirs.nii.gz"
    done = run_monai(
        "run", "--config_file", "configs/inference.json", "--input", source, "--output", theirs, "--to", "mr",
        folder=bundle,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ours.read_bytes() == theirs.read_bytes()
    acquired = write_nifti(head_mr(), tmp_path / "acquired.nii.gz")
    back = tmp_path / "back.nii.gz"
    done = run_monai(
        "run", "--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle, "--input", acquired,
        "--output", back, "--to", "ct", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.array_equal(nib.load(back).affine, nib.load(acquired).affine)


def test_monai_finds_network_and_format_in_agreement(bundle):
    done = run_monai(
        "verify_net_in_out", "--net_id", "network_def", "--meta_file", "configs/metadata.json",
        "--config_file", "configs/inference.json", folder=bundle,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_existing_folder_is_kept(bundle):
    with pytest.raises(WriteError, match="--overwrite"):
        export_monai_bundle(tiny_model(), bundle)
