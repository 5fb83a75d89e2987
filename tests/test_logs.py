import io
import logging
import subprocess
import sys

import pytest

from medcyclegan.cohort import run_script
from medcyclegan.errors import ReadError
from medcyclegan.logs import errors_only, set_up_logging

SCRIPT = """
import logging, sys
from medcyclegan.logs import set_up_logging
set_up_logging(getattr(logging, sys.argv[1]), debug=sys.argv[2:] == ["debug"])
log = logging.getLogger("medcyclegan.any")
log.debug("detail"); log.info("two\\nlines"); log.warning("careful"); log.error("wrong")
logging.getLogger("pydicom").warning("of a library")
"""


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["INFO"], ["two lines", "Warning: careful", "Error: wrong"]),
        (["ERROR"], ["Error: wrong"]),
        (["DEBUG", "debug"], ["detail", "two lines", "Warning: careful", "Error: wrong", "Warning: of a library"]),
    ],
)
def test_messages_are_one_line_each_on_stderr(arguments, lines):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == lines


def test_a_script_reports_like_a_command(capsys):
    def fail():
        raise ReadError("in.nii: no such\nfile")

    assert run_script(fail) == 1
    assert capsys.readouterr().err == "Error: in.nii: no such file\n"


@pytest.mark.parametrize("turn", [1, 2])
def test_a_quiet_command_hides_no_message_from_the_next_test(turn, caplog):
    logging.getLogger("medcyclegan.x").warning("turn %d", turn)
    assert f"turn {turn}" in caplog.text
    set_up_logging(logging.ERROR)


def test_messages_go_to_the_stderr_of_the_moment(monkeypatch):
    """While a progress bar is shown, stderr is replaced: messages are then printed above the bar."""
    set_up_logging()
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    logging.getLogger("medcyclegan.any").warning("careful")
    assert later.getvalue() == "Warning: careful\n"


def test_messages_below_errors_are_hidden_for_a_while(caplog):
    logger = logging.getLogger("medcyclegan.some.part")
    logger.setLevel(logging.INFO)
    with errors_only("medcyclegan.some.part"):
        logger.warning("hidden")
        logger.error("shown")
    logger.info("shown again")
    assert [record.getMessage() for record in caplog.records] == ["shown", "shown again"]
