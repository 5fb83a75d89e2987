"""The command line: each command parses, calls a public verb, prints."""

from medcyclegan.cli.main import main

__all__ = ["main"]
