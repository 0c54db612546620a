"""What decides, beside a program's own functions, what its step is compiled to."""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from trainerd.actors.modules import installed_directories, is_installed, own_modules
from trainerd.actors.purity import Opaque

_OURS = Path(__file__).parent
_EXAMPLES = _OURS / "examples"
_PROCESSOR = Path("/proc/cpuinfo")
_PROCESSOR_BYTES = 16384
"""Holds the first processor; the kernel takes its time to write about the others."""
_PROCESSOR_FIELDS = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")


def conditions(devices: Sequence[jax.Device]) -> dict[str, str]:
    """Name everything by its digest or its text: one changed value is another compilation.

    `code_and_settings`, devices, the processor's features, and how many processors may be used.

    Raises `Opaque` where a module of the user's is no Python source.
    """
    device = devices[0]
    return {
        **code_and_settings(),
        "runtime": f"{device.client.platform} {device.client.platform_version}",
        "devices": repr([(d.platform, d.device_kind, d.id, d.process_index) for d in devices]),
        "processes": str(jax.process_count()),
    }


def code_and_settings() -> dict[str, str]:
    """Of `conditions` what can be told before there is a device.

    Versions of Python and of every installed package, as their installers recorded them; the files
    of every loaded module that is not installed; `settings`; the processor. Raises `Opaque`.
    """
    return {
        "python": f"{sys.version} {platform.machine()} {sys.flags.optimize}",
        "packages": _digest(_packages()),
        "modules": _digest(_sources()),
        **settings(),
        "processor": _digest(_processor()),
        "processors": repr((os.cpu_count(), sorted(os.sched_getaffinity(0)))),
    }


def settings() -> dict[str, str]:
    """What code may change as it runs: the environment, with XLA's flags; JAX's configuration."""
    return {
        "environment": _digest(sorted(f"{k}={v}" for k, v in os.environ.items())),
        "jax": _digest(sorted(f"{k}={v!r}" for k, v in jax.config.values.items())),
    }


def _packages() -> list[str]:
    """Every installed package: name, version, and when which record of its files was made."""
    found = []
    for directory in installed_directories():
        try:
            entries = [x for x in os.scandir(directory) if x.name.endswith(".dist-info")]
        except OSError:
            continue
        for entry in entries:
            try:
                record = os.stat(os.path.join(entry.path, "RECORD"))
                made = f"{record.st_size} {record.st_mtime_ns}"
            except OSError:
                made = ""
            found.append(f"{entry.path} {made}")
    return sorted(found)


def _sources() -> list[str]:
    """Every loaded module that is not installed, with the digest of its source.

    Of trainerd itself its training modules count, whichever of them are loaded by now: a process
    that was forked has loaded others than one that was not.
    """
    paths = {
        name: str(module.__file__)
        for name, module in own_modules().items()
        if not str(module.__file__).startswith(f"{_OURS}{os.sep}")
    }
    if not is_installed(__name__):
        paths |= {f"{__package__}.{path.stem}": str(path) for path in _OURS.glob("*.py")}
        paths |= {
            f"{__package__}.examples.{path.stem}": str(path) for path in _EXAMPLES.glob("*.py")
        }
    found = []
    for name, path in sorted(paths.items()):
        if not path.endswith(tuple(importlib.machinery.SOURCE_SUFFIXES)):
            raise Opaque(f"the module {name} ({path}) is no Python source")
        try:
            status = os.stat(path)
            stamp = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
            found.append(f"{name} {_of_file(path, stamp)}")
        except OSError as error:
            raise Opaque(f"the module {name} cannot be read: {error}") from error
    return found


@functools.cache
def _of_file(path: str, _stamp: tuple[int, ...]) -> str:
    """Digest of a file. A process that is forked finds what its parent has read already."""
    with open(path, "rb") as source:
        return hashlib.sha256(source.read()).hexdigest()


def _processor() -> list[str]:
    try:
        with open(_PROCESSOR, encoding="utf-8", errors="replace") as stream:
            text = stream.read(_PROCESSOR_BYTES)
    except OSError:
        return []
    first = text.partition("\n\n")[0].splitlines()
    return [line for line in first if line.partition(":")[0].strip() in _PROCESSOR_FIELDS]


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
