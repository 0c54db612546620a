"""Where loaded modules come from: Python, installed packages, or the user's own files."""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from types import ModuleType


def is_installed(name: str) -> bool:
    """Whether a module is Python's own, or of an installed package, as far as it is loaded.

    Everything else is the user's, who may change it at any time; so is a package that is installed
    editable.
    """
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is not None:
        return _below_installed(os.path.dirname(file))
    if name in sys.builtin_module_names:
        return True
    top, dot, _ = name.partition(".")
    if dot:
        return is_installed(top)
    paths = list(getattr(module, "__path__", ()))
    return name in sys.stdlib_module_names or (
        bool(paths) and all(_below_installed(path) for path in paths)
    )


def own_modules() -> dict[str, ModuleType]:
    """The loaded modules that have a file which is not installed, by name."""
    # At once: another thread that imports may get its turn wherever memory is collected.
    loaded = sys.modules.copy()
    return {
        name: module
        for name, module in sorted(loaded.items())
        if getattr(module, "__file__", None) is not None and not is_installed(name)
    }


@functools.cache
def installed_directories() -> tuple[str, ...]:
    """Where Python's library and its packages are."""
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return tuple(dict.fromkeys(os.path.realpath(path) for path in found))


@functools.cache
def _below_installed(directory: str) -> bool:
    place = os.path.realpath(directory) + os.sep
    return any(place.startswith(root + os.sep) for root in installed_directories())
