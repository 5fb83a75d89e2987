"""Commands that fetch from and store to a DICOMweb service, and the series in the working folder that they use."""

import pydicom
from click.testing import CliRunner
from support.dicomweb_server import archive_of

from medcyclegan.cli.main import main


def images_of(workspace):
    return sorted((workspace / "ct").iterdir())


def uids_of(workspace):
    image = pydicom.dcmread(images_of(workspace)[0])
    return str(image.StudyInstanceUID), str(image.SeriesInstanceUID)


def honest(workspace, *, images=None, stated=None):
    """Return a server's function that lists the series, sends its images and confirms what it is sent."""
    return archive_of(images_of(workspace), images=images, stated=stated)


def translate(*arguments):
    command = ["translate-volume", *arguments, "--model", "model", "--to", "mr"]
    return CliRunner().invoke(main, command)


def error_of(result, workspace):
    """Return the error line of a failed command, after checking that it left no file."""
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    assert not list((workspace / "temporary").iterdir())
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def series_at(service, workspace):
    study, series = uids_of(workspace)
    return f"{service}/studies/{study}/series/{series}"
