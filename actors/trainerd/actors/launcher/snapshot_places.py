"""Where runs keep their snapshots in this host's memory, and how that memory is given back."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from trainerd.actors.launcher.runs import is_run_id
from trainerd.v1 import launcher_pb2

MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own place for it
_OWNER = "state-directory"
_DOOMED = ".removed"

_log = structlog.get_logger("trainerd.launcher")


class SnapshotPlaces:
    """One directory for each run, below one of this launcher's own, for this user only.

    Launchers of one user are told apart by their state directories. `run_in_background` frees
    memory, which may take a while; whatever cannot be removed is logged. `before_removal` is told
    of a run and its directory while that is still there.
    """

    def __init__(
        self,
        state_directory: Path,
        *,
        memory: Path = MEMORY,
        run_in_background: Callable[[Callable[[], None]], object] = lambda work: work(),
        before_removal: Callable[[str, Path], None] = lambda _run, _place: None,
    ) -> None:
        name = hashlib.sha256(os.fsencode(state_directory.absolute())).hexdigest()[:12]
        self._state = state_directory.absolute()
        self._users = memory / f"trainerd-{os.geteuid()}"
        self._own = self._users / name
        self._run_in_background = run_in_background
        self._before_removal = before_removal

    def of(self, run: str) -> Path | None:
        """The directory of a run, which its trainer makes; None, logged: there can be none."""
        try:
            for directory in (self._users, self._own):
                directory.mkdir(mode=0o700, exist_ok=True)
                _refuse_strangers(directory)
            (self._own / _OWNER).write_bytes(os.fsencode(self._state))
        except OSError as error:
            _log.warning("no_snapshots_in_memory", error=str(error))
            return None
        return self._own / run

    def assign(self, told: launcher_pb2.Assignment, share: float) -> None:
        """Tell a trainer where its run's snapshots go, and which share of the memory they have.

        Its run has the devices, and that memory to itself.
        """
        if share <= 0:
            return
        self.remove_others(told.run)
        place = self.of(told.run)
        if place is not None:
            told.snapshot_directory = str(place)
            memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            told.snapshot_bytes = int(share * memory_bytes)

    def remove(self, run: str) -> None:
        """Forget a run's snapshots. No trainer of it is alive."""
        place = self._own / run
        self._before_removal(run, place)
        doomed = place.with_name(f"{run}{_DOOMED}")
        try:
            place.rename(doomed)
        except FileNotFoundError:
            return
        except OSError:
            # One that is doomed already is in the way: there is nothing to lose.
            doomed = place
        self._run_in_background(lambda: _remove(doomed))

    def remove_others(self, run: str) -> None:
        """Forget all snapshots but those of `run`, which has the devices now."""
        for other in self._runs():
            if other != run and is_run_id(other):
                self.remove(other)

    def sweep(self, exists: Callable[[str], bool]) -> None:
        """At the start: remove what runs that no longer exist have left behind, and launchers whose
        state directory is gone."""
        for run in self._runs():
            if not is_run_id(run) or not exists(run):
                _remove(self._own / run)
        for own in _children(self._users):
            try:
                owner = Path(os.fsdecode((own / _OWNER).read_bytes()))
            except OSError:
                continue
            if not owner.is_dir():
                _remove(own)

    def close(self, keep: Collection[str]) -> None:
        """Leave nothing behind but the snapshots of the runs in `keep`, which could not save."""
        for run in self._runs():
            if run not in keep:
                _remove(self._own / run)
        if self._runs():
            return
        _remove(self._own)
        try:
            self._users.rmdir()
        except OSError:
            # Not there, or another launcher's runs are in it.
            return

    def _runs(self) -> list[str]:
        return [path.name for path in _children(self._own) if path.name != _OWNER]


def _refuse_strangers(directory: Path) -> None:
    found = os.stat(directory, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} must be a directory of user {os.geteuid()} alone")


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []


def _remove(directory: Path) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("snapshots_not_removed", path=str(directory), error=str(error))
