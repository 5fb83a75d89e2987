"""Import the public names of a package on first use, so that importing the package itself is fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["imported_on_use"]


def imported_on_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of ``package``. ``modules``: public name -> the module of the package that defines it.

    Examples
    --------
    >>> imported_on_use("medcyclegan", {"Volume": "volume"})("Volume")
    <class 'medcyclegan.volume.Volume'>
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return find
