"""What all commands share: one-line errors, verbosity, and the options for reading volumes."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from medcyclegan.errors import MedCycleGANError, one_line
from medcyclegan.logs import set_up_logging
from medcyclegan.progress import show_progress

if TYPE_CHECKING:
    from medcyclegan.io.options import ReadOptions

__all__ = [
    "Command",
    "check_models",
    "check_paths",
    "config_options",
    "device_option",
    "models_option",
    "read_options",
    "reading_options",
    "shard_options",
    "synthetic_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command with ``-q -v --debug`` that reports expected failures in one line on stderr.

    Exit codes: 0 for success, 1 for a failure, 2 for an error in the command line.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="Print only errors and the result."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Print more messages."),
            click.Option(["--debug"], is_flag=True, help="Print all messages, and tracebacks of errors."),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; explain a decimal comma."""
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            comma = re.search(r"'(\d+),(\d+)'", error.message)
            if comma is None:
                raise
            message = f"{error.message} Write a decimal point: {comma[1]}.{comma[2]}"
            raise click.BadParameter(message, error.ctx, error.param, error.param_hint) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an expected failure into one line and an exit code."""
        quiet, verbose, debug = (ctx.params.pop(name) for name in ("quiet", "verbose", "debug"))
        level = logging.ERROR if quiet else logging.DEBUG if verbose or debug else logging.INFO
        set_up_logging(level, debug=debug)
        show_progress(not quiet)
        try:
            with _ended_by_sigterm():
                return super().invoke(ctx)
        except MedCycleGANError as error:
            message, code = str(error), error.exit_code
            if debug:
                raise
        except OSError as error:
            if isinstance(error, BrokenPipeError) or debug:
                raise
            message, code = f"{error.filename or 'input or output'}: {error.strerror or error}", 1
        except KeyboardInterrupt:
            if debug:
                raise
            message, code = "stopped by Ctrl-C: unfinished outputs were removed; run the command again", 1
        except MemoryError as error:
            if debug:
                raise
            message, code = f"not enough memory: {one_line(error) or 'an array did not fit'}; free some, or use less", 1
        click.echo(f"Error: {one_line(message)}", err=True)
        ctx.exit(code)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: remove temporary files and print one line."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        click.echo("Error: stopped by SIGTERM: unfinished outputs were removed; run the command again", err=True)
        sys.exit(1)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        # None: the previous handler was not set from Python and cannot be restored.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def reading_options(function: F) -> F:
    """Add the options for reading volumes, which are the same in all commands."""
    options = [
        click.option(
            "--series",
            metavar="UID",
            help="The DICOM series to read, if a folder contains several; the beginning or end of its UID is enough.",
        ),
        click.option(
            "--split-by", metavar="KEYWORD", help="Split a DICOM series into volumes by this attribute, e.g. EchoTime."
        ),
        click.option("--volume", type=int, metavar="N", help="Read volume N of a 4-D file or series; the first is 0."),
        click.option(
            "--resample-tilt", is_flag=True, help="Resample a series with a tilted gantry to an upright grid."
        ),
        click.option(
            "--allow-gap", is_flag=True, help="Accept uneven gaps of at most 10 mm between slices, and resample."
        ),
        click.option(
            "--allow-gap-mm", type=float, metavar="MM", help="Accept uneven gaps of at most MM, and resample."
        ),
        click.option("--assume-axes", metavar="AXES", help="Axis directions, e.g. LAS, of files that state none."),
        click.option(
            "--nan",
            type=click.Choice(["fill"]),
            help="Replace NaN and infinite voxels with the smallest finite value.",
        ),
        click.option(
            "--max-voxels",
            type=int,
            metavar="N",
            help="Refuse a volume with more than N voxels.  [default: 2147483648]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def synthetic_option(function: F) -> F:
    """Add ``--allow-synthetic`` to a command that expects acquired volumes."""
    option = click.option("--allow-synthetic", is_flag=True, help="Accept volumes that are marked as synthetic.")
    return option(function)


def read_options(values: dict[str, Any]) -> ReadOptions:
    """Return the reading options among the ``values`` of a command line; not every command has all of them."""
    from medcyclegan.io.options import ReadOptions

    names = [field.name for field in dataclasses.fields(ReadOptions)]
    return ReadOptions(**{name: values[name] for name in names if values.get(name) is not None})


def check_paths(*paths: str | Path | None, remedy: str = "check the name") -> None:
    """Refuse a missing file or folder, before the imports of a command that take seconds.

    Names that are not given (None) are skipped. Raises :class:`~medcyclegan.errors.ReadError`.
    """
    from medcyclegan.io.links import check_exists

    for path in paths:
        if path is not None:
            check_exists(Path(path), remedy)


def check_models(*models: str | None) -> None:
    """Refuse a name that is neither a model folder nor that of a shipped model, before the imports of a command.

    The default model is not checked, because its absence has a message of its own. Raises
    :class:`~medcyclegan.errors.ModelError`.
    """
    from medcyclegan.model.shipped import DEFAULT_MODEL, model_folder

    for model in models:
        if model is not None and model != DEFAULT_MODEL:
            model_folder(model)


def config_options(function: F) -> F:
    """Add ``--config`` and ``--set``."""
    name = click.option("--config", metavar="NAME|FILE", help="The name of a shipped configuration, or a YAML file.")
    override = click.option(
        "--set",
        "overrides",
        metavar="SECTION.KEY=VALUE",
        multiple=True,
        help="Override one value of the configuration; can be repeated.",
    )
    return name(override(function))


def shard_options(function: F) -> F:
    """Add ``--num-shards`` and ``--shard-id``."""
    number = click.option("--num-shards", type=click.IntRange(1), metavar="N", help="Divide the work among N calls.")
    which = click.option(
        "--shard-id",
        type=click.IntRange(0),
        metavar="N",
        help="The number of this call, from 0.  [default: SLURM_ARRAY_TASK_ID]",
    )
    return number(which(function))


def training_options(function: F) -> F:
    """Add ``--out``, ``--max-steps``, ``--resume`` and ``--init-from``."""
    options = [
        click.option("--out", default="runs", show_default=True, metavar="DIR", help="The folder of runs."),
        click.option(
            "--max-steps",
            type=click.IntRange(1),
            metavar="N",
            help="Train for N steps instead of the configured epochs.",
        ),
        click.option(
            "--resume", is_flag=False, flag_value="", metavar="[RUN]", help="Continue a run.  [default: OUT/latest]"
        ),
        click.option(
            "--init-from",
            metavar="MODEL",
            help="Start from the generators of this model folder or shipped model; none: train from scratch.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def training_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return the values of :func:`training_options` and ``--device`` as arguments of ``train`` and ``pretrain``.

    Raises :class:`~medcyclegan.errors.UsageError` if both a run and ``--out`` are named.
    """
    from medcyclegan.errors import UsageError

    resume = options["resume"]
    if resume and click.get_current_context().get_parameter_source("out") is ParameterSource.COMMANDLINE:
        raise UsageError(f"--resume {resume} writes to that folder: leave --out out, or use --resume without a run")
    named = {name: options[name] for name in ("out", "max_steps", "device", "init_from")}
    return {**named, "resume": True if resume == "" else resume}


def print_run(run: Path) -> None:
    """Print the folder of a finished run; of several processes, only the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        click.echo(run)


def models_option(function: F) -> F:
    """Add ``--model``, which can be repeated."""
    from medcyclegan.model.shipped import DEFAULT_MODEL

    return click.option(
        "--model",
        multiple=True,
        default=[DEFAULT_MODEL],
        show_default=True,
        metavar="DIR|NAME",
        help="The model folder, or the name of a shipped model; repeat it to average the outputs of several models.",
    )(function)


def device_option(function: F) -> F:
    """Add ``--device``."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="NAME",
        help="The device to compute on: auto, cpu, cuda or cuda:N.",
    )(function)
