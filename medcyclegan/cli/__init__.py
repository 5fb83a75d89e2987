"""The command line: each command parses its options, calls a public function and prints the result."""

from medcyclegan.cli.main import main

__all__ = ["main"]
