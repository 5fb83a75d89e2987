"""Export a model as a MONAI bundle: metadata, inference configuration, model folder and README."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

from medcyclegan import __version__
from medcyclegan.model.bundle import DomainModel, ModelBundle
from medcyclegan.provenance import now
from medcyclegan.storage import atomic_folder

__all__ = ["export_monai_bundle"]


def export_monai_bundle(bundle: ModelBundle, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a MONAI bundle into ``folder``, completely or not at all, and return its path.

    It holds ``configs/metadata.json`` (MONAI's schema), ``configs/inference.json``, ``models/`` (the model folder with
    its weights) and ``docs/README.md``. If medcyclegan is installed, ``python -m monai.bundle run`` translates with it
    like ``translate-volume``. Source: MONAI, "Bundle Specification". Raises :class:`~medcyclegan.errors.WriteError`.
    """
    path = Path(folder)
    with atomic_folder(path, overwrite=overwrite) as temporary:
        for name in ("configs", "models", "docs"):
            (temporary / name).mkdir()
        bundle.write_into(temporary / "models")
        for name, record in (("metadata", _metadata(bundle)), ("inference", _inference(bundle))):
            (temporary / "configs" / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        (temporary / "docs" / "README.md").write_text(_readme(bundle), "utf-8")
    return path


def _inference(bundle: ModelBundle) -> dict[str, Any]:
    """Return the configuration that MONAI runs; ``network_def`` is for MONAI's own checks."""
    return {
        "imports": ["$from medcyclegan.inference import translate_file"],
        "bundle_root": ".",
        "input": "input.nii.gz",
        "output": "output.nii.gz",
        "to": bundle.domains[1].name,
        "device": "auto",
        "overwrite": False,
        "model": "$@bundle_root + '/models'",
        "network_def": {
            "_target_": "medcyclegan.networks.build_generator",
            "config": {"_target_": "medcyclegan.config.Generator", **bundle.generator.model_dump(mode="json")},
            "size": bundle.preparation.size,
        },
        "computing": {"_target_": "medcyclegan.inference.InferenceOptions", "device": "@device"},
        "options": {
            "_target_": "medcyclegan.inference.TranslationOptions",
            "to": "@to",
            "computing": "@computing",
            "overwrite": "@overwrite",
        },
        "run": ["$translate_file(@input, @output, @model, @options)"],
    }


def _metadata(bundle: ModelBundle) -> dict[str, Any]:
    a, b = bundle.domains
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": __version__,
        "changelog": {__version__: f"exported {now()} from model {bundle.fingerprint}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": importlib.metadata.version("torch").split("+")[0],
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {"medcyclegan": __version__},
        "name": f"CycleGAN, {a.name} and {b.name}",
        "task": f"Translation of volumes between {a.name} and {b.name}",
        "description": (
            f"Two generators trained on unpaired volumes: G_AB translates {_what(a)} to {_what(b)}, G_BA the "
            f"reverse, by axial slices. Every output is synthetic."
        ),
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "Research only; not a medical device.",
        "data_type": "NIfTI, DICOM, MetaImage, NRRD",
        "image_classes": f"{_what(a)} or {_what(b)}",
        "model_sha256": bundle.fingerprint,
        "network_data_format": {"inputs": {"image": _format(bundle, a)}, "outputs": {"pred": _format(bundle, b)}},
        "canvas_multiple": bundle.canvas_multiple(),
        "provenance": dict(bundle.provenance),
    }


def _format(bundle: ModelBundle, domain: DomainModel) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": domain.modality or "unknown",
        "num_channels": 1,
        "spatial_shape": [bundle.preparation.size, bundle.preparation.size],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
        "channel_def": {"0": domain.name},
    }


def _what(domain: DomainModel) -> str:
    return f"{domain.name} ({domain.modality})" if domain.modality else domain.name


def _readme(bundle: ModelBundle) -> str:
    a, b = bundle.domains
    return f"""# Translation of volumes between {a.name} and {b.name}

A CycleGAN (Zhu et al. 2017, arXiv 1703.10593), trained on unpaired volumes with
medcyclegan {__version__}; {_what(a)} to {_what(b)} and back. Model {bundle.fingerprint}.

Research only; not a medical device. Every output is synthetic and labeled as synthetic.

## Use

    pip install medcyclegan fire
    python -m monai.bundle run --config_file configs/inference.json \\
        --input in.nii.gz --output out.nii.gz --to {b.name}

in this folder, or from elsewhere with `--bundle_root FOLDER`. `--to {a.name}` translates in the other direction. Input
and output may be NIfTI, MetaImage or NRRD files or folders of one DICOM series, as for
`medcyclegan translate-volume --model models`, which does the same. The output has exactly the
input's grid. A JSON file next to it records how it was made and its quality verdict.

## Contents

- `models/`: `model.json` (domains, preparation, intensity scalings, networks, provenance) and the weights
- `configs/inference.json`: the configuration; `configs/metadata.json`: versions and data formats

## Preparation

{_preparation(bundle)}
"""


def _preparation(bundle: ModelBundle) -> str:
    chosen = bundle.preparation
    pixels = f"pixels of {chosen.pixel_mm:g} mm" if chosen.fit == "physical" else "pixels, stretched to fit"
    lines = [f"Axial slices of {chosen.size} {pixels}; values scaled to [-1, 1]:", ""]
    for domain in bundle.domains:
        scaling = domain.scaling
        limits = {
            "window": "a fixed window",
            "percentile": "the percentiles of each volume's foreground",
            "range": "the bit depth",
        }
        lines.append(
            f"- {_what(domain)}: outputs from {scaling.lower:g} to {scaling.upper:g} {scaling.unit}; "
            f"inputs by {limits[scaling.kind]}"
        )
    return "\n".join(lines)
