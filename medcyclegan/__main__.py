"""``python -m medcyclegan`` is the command ``medcyclegan``."""

from medcyclegan.cli import main

main(prog_name="medcyclegan")
