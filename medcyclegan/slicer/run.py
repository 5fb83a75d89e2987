"""Run one translation as Slicer asks for it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

from medcyclegan.errors import IncompleteError, UsageError
from medcyclegan.inference import InferenceOptions, TranslationOptions, translate_file
from medcyclegan.inference.runtime.options import Planes
from medcyclegan.io import sidecar_path
from medcyclegan.io.formats import ending_of
from medcyclegan.model.shipped import find_translation
from medcyclegan.progress import StageProgress, listen_to_progress
from medcyclegan.slicer.description import TITLE
from medcyclegan.slicer.progress_tags import ProgressTags
from medcyclegan.storage import atomic_write, scratch_folder

__all__ = ["ModuleOptions", "run_module"]


@dataclasses.dataclass(frozen=True)
class ModuleOptions:
    """The parameters as Slicer passes them; empty if not chosen.

    ``translation``: one of the choices of :func:`~medcyclegan.slicer.description.translation_choices`, if there is no
    ``modelfolder``. ``to``: the domain of the model in ``modelfolder``. ``returnparameterfile``: the file into which
    the quality verdict is written.
    """

    translation: str = ""
    planes: Planes = "axial"
    modelfolder: str = ""
    to: str = ""
    uncertainty: Path | None = None
    returnparameterfile: Path | None = None


def run_module(source: Path, output: Path, options: ModuleOptions, write: Callable[[str], object]) -> None:
    """Translate ``source`` into ``output``, and report the progress with ``write``.

    The files are created under other names, and replace existing ones in the end, since Slicer chooses the names. No
    other file remains. Raises a :class:`~medcyclegan.errors.MedCycleGANError`.
    """
    model, to = (options.modelfolder, options.to) if options.modelfolder else find_translation(options.translation)
    if options.to and not options.modelfolder:
        raise UsageError(
            f"Translate to {options.to}: this is for a model folder", remedy="choose a translation instead"
        )
    stages = [("translating", 0.95)]
    if options.uncertainty is not None:
        stages = [("translating", 0.6), ("translating back", 0.35)]
    tags = ProgressTags(TITLE, write)
    tags.start()
    failure = None
    with scratch_folder(output.parent, "medcyclegan-slicer") as folder:
        made = folder / f"output{ending_of(output)}"
        spread = None if options.uncertainty is None else folder / f"uncertainty{ending_of(options.uncertainty)}"
        chosen = TranslationOptions(
            to=to or None, computing=InferenceOptions(planes=options.planes), uncertainty=spread
        )
        try:
            with listen_to_progress(StageProgress(tags.advance, stages)):
                translate_file(source, made, model, chosen)
        except IncompleteError as error:  # the output itself is complete
            failure = error
        record = json.loads(sidecar_path(made).read_text())
        os.replace(made, output)
        if spread is not None and options.uncertainty is not None and spread.exists():
            os.replace(spread, options.uncertainty)
    if options.returnparameterfile is not None:
        with atomic_write(options.returnparameterfile) as file:
            file.write(f"quality = {record.get('quality', {}).get('verdict', '')}\n".encode())
    if failure is not None:
        raise failure
    tags.end()
