"""medcyclegan as a command-line module of 3D Slicer.

Slicer runs the program with ``--xml`` to learn its parameters, and builds a panel from the answer; then it runs it with
files in place of volumes, and reads the progress from tags on stdout. Source: the Slicer Execution Model
(https://slicer.readthedocs.io/en/latest/developer_guide/modules/cli.html).
"""
