"""The step that the run's last process used, on its way into this one while the program is built.

Loading a compiled step takes a core for up to a second, and building a program, restoring its
state and making the step's key takes another one as long: they are done side by side. What is
loaded is used only if the key turns out to be the one it was loaded under.

JAX's devices are opened for it before the entry function has run, which is too early for one that
sets a variable or an option that JAX reads as it opens them. So there is a head start only where
the code, the arguments, the environment and the options are those of a process that saw its entry
function leave these alone. A process takes its predecessor's word off the disk and puts down its
own when it has come as far: one that dies on the way costs the next one nothing but the time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from trainerd.actors.conditions import code_and_settings, settings
from trainerd.actors.executables import ExecutableStore
from trainerd.actors.kept_step import KeptStep, Note, read_note
from trainerd.actors.purity import Opaque

FILE = "next-step.json"
_MOST_BYTES = 1000
_READ_S = 10.0
_LOAD_S = 60.0

_log = logging.getLogger(__name__)


class HeadStart:
    """Begin it when the program's module is imported, before its entry function is called.

    Owned by whoever begins it, who must `close` it.
    """

    def __init__(
        self,
        store: ExecutableStore,
        file: Path,
        opening: str,
        devices: Callable[[], Sequence[jax.Device]],
    ) -> None:
        """See `begin`."""
        self._store, self._file, self._opening = store, file, opening
        self._devices = devices
        self._settings = settings()
        self._key = _taken_from(file, opening)
        self._note: Note | None = None
        self._step: KeptStep | None = None
        self._error = ""
        self._claimed = False
        self._noted = threading.Event()
        self._thread: threading.Thread | None = None
        if self._key:
            self._thread = threading.Thread(target=self._load, name="head-start", daemon=True)
            self._thread.start()

    @staticmethod
    def begin(
        store: ExecutableStore,
        directory: Path,
        entry: str,
        args: Mapping[str, Any],
        *,
        devices: Callable[[], Sequence[jax.Device]] = jax.devices,
        processes: int = 1,
    ) -> HeadStart | None:
        """Load what `directory`, which is the run's own, names; None: there can be none.

        `devices`: all that the run trains on, of so many `processes`.
        """
        try:
            code = code_and_settings()
        except Opaque:
            return None
        text = json.dumps([entry, repr(sorted(args.items())), code, processes], sort_keys=True)
        opening = hashlib.sha256(text.encode()).hexdigest()
        return HeadStart(store, directory / FILE, opening, devices)

    def note(self) -> Note | None:
        """What was kept beside the step; None: no step, or not in time."""
        if self._thread is None or not self._noted.wait(_READ_S):
            return None
        return self._note

    def take(self, key: str, devices: Sequence[jax.Device]) -> KeptStep | None:
        """The step, if it is that of `key` on `devices`; None: it is not, or cannot be loaded."""
        if self._thread is None or key != self._key or list(devices) != jax.devices():
            return None
        self._thread.join(_LOAD_S)
        if self._thread.is_alive():
            _log.warning("a compiled step was not loaded within %g s", _LOAD_S)
            return None
        if self._step is None:
            self._store.discard(key, self._error)
            return None
        self._claimed = True
        return self._step

    def prepare_next(self, key: str) -> None:
        """Let the run's next process begin with the step of `key`, unless that were too early."""
        if settings() != self._settings:
            return
        scratch = self._file.with_suffix(".new")
        try:
            scratch.write_text(json.dumps([self._opening, key]), encoding="ascii")
            os.replace(scratch, self._file)
        except OSError as error:
            _log.warning("the next start will have no head start: %s", error)

    def too_early(self) -> str:
        """Why the devices should not have been opened yet; empty: nothing speaks against it."""
        changed = [name for name, value in settings().items() if value != self._settings[name]]
        if self._thread is None or not changed:
            return ""
        return (
            f"the program changed its {' and '.join(changed)} settings this time, after JAX had "
            "read them"
        )

    def close(self) -> None:
        """Let go of a step that nobody took."""
        if self._thread is None:
            return
        self._thread.join(_LOAD_S)
        if self._step is not None and not self._claimed:
            # It was loaded as it should; that it is another program's is no fault of its own.
            self._store.worked(self._key)
        self._step = None

    def _load(self) -> None:
        try:
            kept = self._store.load(self._key)
            if kept is None:
                self._error = "it is gone"
                return
            note = self._note = read_note(kept)
            self._noted.set()
            self._step = KeptStep.load(kept, self._devices(), note)
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
        finally:
            self._noted.set()


def _taken_from(file: Path, opening: str) -> str:
    """The key that was put down for a process with this opening; empty: none."""
    try:
        with file.open(encoding="ascii") as stream:
            content = stream.read(_MOST_BYTES)
        file.unlink()
        said = json.loads(content)
        match said:
            case [str(known), str(key)] if known == opening and key.isalnum():
                return key
            case _:
                return ""
    except (OSError, ValueError):
        return ""
