"""Importing everything a trainer of one run imports, and watching what that does."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainerd.actors import modules
from trainerd.actors.standby import stamps
from trainerd.actors.standby.messages import Unfit
from trainerd.actors.standby.openings import Openings
from trainerd.v1.lean_imports import lean_imports

NICENESS = 5
"""Of the thread that imports the libraries: it must not compete with the trainer beside it."""

LIBRARIES = (
    "trainerd.actors.trainer.main",
    "trainerd.actors.trainer.training",
    "trainerd.actors",
)
THREAD_END_S = 30.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class CannotServe(Exception):
    """No trainer can be forked here."""

    def __init__(self, unfit: Unfit) -> None:
        super().__init__(unfit.reason)
        self.unfit = unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """What a new process would have to find unchanged for this one to be as good."""

    files: dict[str, stamps.Stamp | None]


def preload(path: Sequence[str], module: str) -> Preloaded:
    """Import the libraries and the run's module. Raise `CannotServe`."""
    try:
        with lean_imports():
            _in_a_nice_thread(lambda: [importlib.import_module(name) for name in LIBRARIES])
    except Exception as error:
        raise _cannot(f"importing trainerd raised {type(error).__name__}: {error}", {}) from error
    from trainerd.actors import conditions, purity  # noqa: PLC0415
    from trainerd.actors.standby import imprint  # noqa: PLC0415
    from trainerd.actors.trainer import main, module_path  # noqa: PLC0415

    main.versions()

    began = set(sys.modules)
    before = imprint.Imprint.now()
    with Openings().recorded() as opened:
        module_path.search_first(path)
        try:
            # In the main thread, as in a trainer: a module may not care to be elsewhere.
            importlib.import_module(module)
        except BaseException as error:
            # The trainer itself will say what is wrong; it may be mended by then.
            raise _cannot(f"importing {module} raised {type(error).__name__}", {}) from error
    files = stamps.stamps(_watched(opened))
    try:
        if len(files) > stamps.LIMIT:
            raise imprint.NotForkable(f"it reads {len(files)} files, more than {stamps.LIMIT}")
        before.check_since()
    except imprint.NotForkable as error:
        own = _users(sys.modules.keys() - began)
        raise _cannot(f"importing {module}: {error}", stamps.stamps(own), lasting=True) from error
    with contextlib.suppress(purity.Opaque):
        # Reads every source file: each fork finds that done.
        conditions.code_and_settings()
    gc.collect()
    # What is here now is never looked at again: its pages stay shared with every fork.
    gc.freeze()
    return Preloaded(files=files)


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    statm = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * _PAGE_BYTES


def _in_a_nice_thread(act: Callable[[], object]) -> None:
    """Act in a thread of low priority; return when it is gone.

    Niceness belongs to a thread, and only a privileged process may lower its own again: the main
    thread, which forks, never gives up its place.
    """
    raised: list[BaseException] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            act()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="preload")
    thread.start()
    thread.join()
    # Python is done with it; the kernel may not be, and a fork counts the kernel's threads.
    deadline_s = time.monotonic() + THREAD_END_S
    while os.path.exists(f"/proc/self/task/{thread.native_id}"):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the importing thread did not end within {THREAD_END_S:g} s")
        time.sleep(0.001)
    for error in raised:
        raise error


def _watched(opened: Iterable[str]) -> set[str]:
    """What decides what a new process would import: files, and the places of packages.

    An installation changes its place's own modification time, and nobody edits within.
    """
    places = modules.installed_directories()
    installed = tuple(f"{place}/" for place in places)
    files = {path for path in opened if not os.path.realpath(path).startswith(installed)}
    return files | _users(sys.modules.keys()) | set(places)


def _users(names: Collection[str]) -> set[str]:
    """Sources of modules that are not installed: the user's, and trainerd's own in a checkout."""
    own = modules.own_modules().items()
    return {str(module.__file__) for name, module in own if name in names}


def _cannot(
    reason: str, files: dict[str, stamps.Stamp | None], *, lasting: bool = False
) -> CannotServe:
    return CannotServe(Unfit(reason=reason, lasting=lasting, files=files))
