"""``translate_file``: from a file or folder to an output with its sidecar and its preview."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medcyclegan.errors import UsageError, WriteError
from medcyclegan.inference.bundle import ModelBundle
from medcyclegan.inference.computing import Computing
from medcyclegan.inference.device import choose_device
from medcyclegan.inference.domains import choose_target, output_modality, source_scaling
from medcyclegan.inference.translate import translate
from medcyclegan.io import check_output_format, check_writable, read_volume, write_volume
from medcyclegan.pictures import png_bytes, preview
from medcyclegan.provenance import now, versions
from medcyclegan.storage import atomic_write, check_output
from medcyclegan.volume import Volume

__all__ = ["TranslationOptions", "sidecar_path", "translate_file"]

#: Written into every sidecar and read again: a sidecar without it is somebody else's file.
_MADE_BY = "medcyclegan translate-volume"


@dataclasses.dataclass(frozen=True)
class TranslationOptions:
    """How :func:`translate_file` goes about it; see the command's help for each."""

    to: str | None = None
    computing: Computing = dataclasses.field(default_factory=Computing)
    force: bool = False
    preview: str | Path | None = None
    overwrite: bool = False
    template: str | Path | None = None
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def translate_file(
    source: str | Path, output: str | Path, model: str | Path, options: TranslationOptions | None = None
) -> Path:
    """Read ``source``, translate it with the model folder ``model`` and write ``output``.

    Beside the output lies its sidecar (:func:`sidecar_path`): versions, model and its hash, device,
    timings, clipped voxels. Returns the output's path. Raises a
    :class:`~medcyclegan.errors.MedCycleGANError` before any work where an output cannot be written.
    """
    options = options or TranslationOptions()
    out, sidecar = Path(output), sidecar_path(Path(output))
    _check_outputs(Path(source), out, sidecar, options)
    bundle = ModelBundle.load(model)
    if options.to is not None:
        bundle.direction(options.to)
    device = choose_device(options.computing.device)
    clock = [time.monotonic()]
    volume = read_volume(source, **options.reading)
    clock.append(time.monotonic())
    to = options.to or choose_target(volume, bundle)
    expected = volume.replace(modality=output_modality(volume, bundle.direction(to)[2]))
    check_writable(expected, out, template=options.template)
    computing = dataclasses.replace(options.computing, device=str(device))
    done = translate(volume, [bundle], to, computing, force=options.force)
    result = done.volume
    clock.append(time.monotonic())
    if options.preview:
        title = f"synthetic {to}"
        with atomic_write(Path(options.preview)) as file:
            file.write(png_bytes(preview({"input": volume, title: result})))
    record = _record(volume, bundle, to, options.force)
    write_volume(result, out, template=options.template)
    clock.append(time.monotonic())
    seconds = dict(zip(("read", "translate", "write"), np.diff(clock).round(3).tolist(), strict=True))
    record.update(device=str(done.device), seconds=seconds, batch_size=done.batch_size)
    with atomic_write(sidecar) as file:
        file.write((json.dumps(record, indent=2) + "\n").encode())
    return out


def sidecar_path(output: Path) -> Path:
    """Return the JSON file that belongs to an output: ``out.nii.gz`` has ``out.json``, as in BIDS."""
    name = output.name
    for ending in (".nii.gz", output.suffix):
        if ending and name.endswith(ending):
            name = name[: -len(ending)]
            break
    return output.with_name(f"{name}.json")


def _check_outputs(source: Path, out: Path, sidecar: Path, options: TranslationOptions) -> None:
    """Refuse, before any work, what could not be written or would destroy something."""
    check_output_format(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"{out} is the input: name another output")
    if not out.suffix and source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in the input folder, where it would be read as part of it: name another output")
    if options.template is not None and out.suffix:
        raise UsageError(f"--dicom-template serves a DICOM series only, and {out} is a file: name a folder as OUT")
    check_output(out, overwrite=options.overwrite)
    if sidecar.exists() and not options.overwrite and not (_is_ours(sidecar) and not out.exists()):
        raise WriteError(f"{sidecar} exists: outputs are not replaced unless you pass --overwrite")
    if options.preview:
        picture = Path(options.preview)
        if picture.suffix.lower() != ".png":
            raise UsageError(f"--preview {picture}: previews are PNG files: end its name in .png")
        if picture in (out, source):
            raise UsageError(f"--preview {picture}: is the input or the output: name another file")
        check_output(picture, overwrite=options.overwrite)


def _is_ours(sidecar: Path) -> bool:
    try:
        record = json.loads(sidecar.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("made_by") == _MADE_BY


def _record(volume: Volume, bundle: ModelBundle, to: str, force: bool) -> dict[str, Any]:
    """Return what the sidecar says beside device and times; no path and no header text of the input."""
    _, source, target = bundle.direction(to)
    scaling = source_scaling(volume, source, force=force)
    clipped = scaling.count_clipped(volume.array)
    return {
        "made_by": _MADE_BY,
        "synthetic": True,
        **({"Modality": target.modality} if target.modality else {}),
        "intended_use": "research only; not a medical device",
        "created": now(),
        "versions": versions(),
        "model": bundle.fingerprint,
        "from": {"domain": source.name, "modality": source.modality, "scaling": scaling.to_dict()},
        "to": {"domain": target.name, "modality": target.modality, "scaling": target.scaling.to_dict()},
        "preparation": dataclasses.asdict(bundle.preparation),
        "shape": list(volume.shape),
        "clipped_voxels": clipped,
        "clipped_share": round(clipped / volume.array.size, 6),
        "forced": force,
    }
