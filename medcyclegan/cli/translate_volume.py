"""``medcyclegan translate-volume``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medcyclegan.cli.common import (
    Command,
    check_models,
    check_paths,
    device_option,
    models_option,
    read_options,
    reading_options,
    synthetic_option,
)
from medcyclegan.terminal import terminal_columns

if TYPE_CHECKING:
    from medcyclegan.inference import TranslationOptions
    from medcyclegan.io import ReadOptions
    from medcyclegan.volume import Volume


def _batch_size(_context: click.Context, _parameter: click.Parameter, value: str) -> int | str:
    """Return a number of slices, or ``auto``."""
    if value == "auto":
        return value
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r}: use a whole number from 1 on, or auto")
    return int(value)


@click.command("translate-volume", cls=Command)
@click.argument("paths", nargs=-1, metavar="IN... OUT")
@click.option("-i", "--input", "inputs", multiple=True, metavar="IN", help="The same as IN; can be repeated.")
@click.option("-o", "--output", metavar="OUT", help="The same as OUT.")
@models_option
@click.option(
    "--to",
    metavar="DOMAIN",
    help="The domain to translate to.  [default: the second one, or the first if IN fits only the second]",
)
@device_option
@click.option(
    "--batch-size", default="auto", show_default=True, metavar="N|auto", callback=_batch_size, help="Slices per batch."
)
@click.option("--fast", is_flag=True, help="Compute in bf16 if the device supports it, and report the resulting error.")
@click.option(
    "--backend",
    type=click.Choice(["torch", "onnx"]),
    default="torch",
    show_default=True,
    help="onnx: compute with ONNX Runtime (extra onnx); --model may be a folder written by export --format onnx.",
)
@click.option(
    "--tta", is_flag=True, help="Also translate mirrored slices, and average the results; takes twice as long."
)
@click.option(
    "--planes",
    type=click.Choice(["axial", "three"]),
    default="axial",
    show_default=True,
    help="three: also translate coronal and sagittal slices, and take the median; takes several times as long.",
)
@click.option(
    "--dicom-template",
    metavar="DIR",
    help="For DICOM output from an IN that is not DICOM: the series whose patient and study are copied.",
)
@click.option("--deidentify", is_flag=True, help="Remove patient, study and dates from DICOM output (extra deid).")
@click.option(
    "--pseudonyms",
    metavar="KEYFILE",
    help="With --deidentify: give each patient a pseudonym and shifted dates, the same in every run with this file.",
)
@click.option(
    "--uncertainty",
    metavar="FILE|DIR",
    help="Also write the half-width of each voxel's prediction interval; without calibration, an estimate.",
)
@click.option(
    "--coverage", type=float, metavar="SHARE", help="The share of voxels that the intervals cover.  [default: 0.9]"
)
@click.option(
    "--preview", metavar="PNG|DIR", help="Also write a picture of input, output and uncertainty map in three planes."
)
@click.option("--force", is_flag=True, help="Accept an input whose modality the model was not trained on.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@reading_options
@synthetic_option
def command(paths: tuple[str, ...], inputs: tuple[str, ...], output: str | None, **options: Any) -> None:
    """Translate the volume IN and write the result to OUT, on the same grid as IN.

    IN is a file, such as a NIfTI volume or an image, or a folder with one DICOM series. The file extension of OUT
    determines its format; without an extension, OUT is a folder for a derived DICOM series. A JSON file next to OUT,
    with the same stem, records how OUT was made.

    If IN is a folder with more than one volume, or there are several INs, OUT is a folder of results, one for each
    volume and in its format. Volumes of another modality are skipped, and finished ones are kept, so the command can be
    repeated. Failures are listed in OUT/ledger.jsonl; the others are still translated, and the exit code is 1.
    --uncertainty and --preview then name folders, whose files are named like the results.

    OUT can also be a DICOM node to which the series is sent (extra pacs): dicom://AET@host:port,
    followed by ?calling=AET, &tls=on, &ca=FILE, &cert=FILE, &key=FILE as needed. No local file is kept.

    IN can be a series of a DICOMweb service, and OUT the service or a study in it (extra dicomweb):
    https://host/dicom-web/studies/UID/series/UID. MEDCYCLEGAN_DICOMWEB_TOKEN, or MEDCYCLEGAN_DICOMWEB_CERT and
    MEDCYCLEGAN_DICOMWEB_KEY, give access.
    """
    from medcyclegan.io.dicom.network.web_address import is_dicomweb

    sources, out = _sources_and_output(paths, inputs, output)
    check_paths(*(path for path in (*sources, options["dicom_template"]) if path is None or not is_dicomweb(path)))
    check_models(*options["model"])

    reading = read_options(options)
    read = _read_ahead(sources, reading.for_acquired(allow_synthetic=options["allow_synthetic"]))
    from medcyclegan.inference import InferenceOptions, TranslationOptions  # takes a second or more

    computing = InferenceOptions(
        device=options["device"],
        **{name: options[name] for name in ("batch_size", "fast", "backend", "tta", "planes")},
    )
    chosen = TranslationOptions(
        to=options["to"],
        computing=computing,
        force=options["force"],
        uncertainty=options["uncertainty"],
        coverage=options["coverage"],
        preview=options["preview"],
        overwrite=options["overwrite"],
        template=options["dicom_template"],
        deidentify=options["deidentify"],
        pseudonyms=options["pseudonyms"],
        reading=reading,
        allow_synthetic=options["allow_synthetic"],
    )
    _translate(sources, out, options["model"], chosen, read)


def _read_ahead(sources: list[str], options: ReadOptions) -> Callable[[], Volume] | None:
    """Begin to read a single local file, so that it is read while PyTorch and the model are loaded."""
    from medcyclegan.io import read_ahead
    from medcyclegan.io.dicom.network.web_address import is_dicomweb

    if len(sources) > 1 or is_dicomweb(sources[0]) or Path(sources[0]).is_dir():
        return None
    return read_ahead(Path(sources[0]), options)


def _translate(
    given: list[str],
    out: str,
    model: tuple[str, ...],
    options: TranslationOptions,
    read: Callable[[], Volume] | None,
) -> None:
    """Translate one volume and print its output, or many and print a table of them."""
    from medcyclegan.errors import UsageError
    from medcyclegan.inference import translate_file
    from medcyclegan.io.dicom.network.web_address import is_dicomweb

    remote = [source for source in given if is_dicomweb(source)]
    if remote and len(given) > 1:
        raise UsageError(f"{remote[0]} is on a server: translate it alone, or fetch the series first")
    if remote:
        click.echo(translate_file(remote[0], out, model, options))
        return
    sources = [Path(source) for source in given]

    found = None
    if len(sources) > 1 or sources[0].is_dir():  # a file does not need the imports of a cohort
        from medcyclegan.cohort import find_many, translate_folder, translations_table

        found = find_many(sources, out, options.reading)
    if found is None:
        click.echo(translate_file(sources[0], out, model, options, read=read))
        return
    done = translate_folder(sources, found, Path(out), model, options)
    click.echo(translations_table(done, Path(out), terminal_columns()))
    if done.failed:
        click.echo(f"Error: {len(done.failed)} of {len(found)} volumes failed: see {out}/ledger.jsonl", err=True)
        raise click.exceptions.Exit(1)


def _sources_and_output(paths: tuple[str, ...], inputs: tuple[str, ...], output: str | None) -> tuple[list[str], str]:
    """Return the INs and OUT, which are arguments or options.

    Raises :class:`~medcyclegan.errors.UsageError` if one is missing or given twice.
    """
    from medcyclegan.errors import UsageError

    sources = [*inputs, *paths]
    if output is None and paths:
        output = sources.pop()
    elif inputs and paths:
        raise UsageError(f"{paths[0]}: --input and --output name all volumes: leave the argument out")
    if not sources or output is None:
        raise UsageError("the input or the output is missing: medcyclegan translate-volume IN OUT")
    return sources, output
