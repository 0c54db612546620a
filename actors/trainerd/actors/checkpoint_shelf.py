"""The durable checkpoints of a store's directories: found, discarded, and tidied up."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from trainerd.actors import checkpoint_files as files
from trainerd.actors import checkpoint_manifest as manifest
from trainerd.actors import fence
from trainerd.actors.checkpoint_files import Checkpoint
from trainerd.actors.checkpoint_meta import read_meta
from trainerd.actors.checkpoint_past import superseded
from trainerd.actors.checkpoint_retention import Retention
from trainerd.actors.ledger import Entry

_log = logging.getLogger(__name__)


class Shelf:
    """What is durable in `directories`, but for what was to go and could not. Safe for threads.

    `distrusted`: paths that could not be read: not taken for checkpoints either, and left alone.
    `incarnation`: of the gang that saves here; 0: there is none.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        retention: Retention,
        *,
        distrusted: Iterable[Path] = (),
        incarnation: int = 0,
    ) -> None:
        self._directories, self._retention = directories, retention
        self._incarnation = incarnation
        self._lock = threading.Lock()
        # Paths that were to go and could not: never taken for checkpoints again.
        self._discarded: set[Path] = set(distrusted)
        self._scores: dict[Path, float | None] = {}
        # Directories in which no save has failed since the last one that did not.
        self._clean: set[Path] = set()

    def newest(self) -> Checkpoint | None:
        """The newest durable checkpoint of all directories; None too if none can be read."""
        return next(iter(self.all()), None)

    def all(self) -> list[Checkpoint]:
        """What is durable, newest first; a directory that cannot be listed is logged."""
        found = [checkpoint for place in self._directories for checkpoint in self._in(place)]
        return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)

    def durable(self, step: int) -> Checkpoint | None:
        """The durable checkpoint of `step`, if there is one that can be read."""
        for place in self._directories:
            path = place / str(step)
            with self._lock:
                if path in self._discarded:
                    continue
            try:
                found = [Checkpoint(step=step, path=path)] if files.is_durable(path) else []
                if found and self._accepted(place, found):
                    return found[0]
            except OSError:
                # Saving it again fails for the same reason, and says it.
                continue
        return None

    def clear(self, path: Path) -> None:
        """Make way for a save to `path`. Raises OSError.

        What is durable, or cannot be ours, is set aside; a save that was cut short is removed.
        """
        if files.is_committed(path) and not files.is_durable(path):
            files.remove(Checkpoint(step=int(path.name), path=path))
        elif os.path.lexists(path):
            files.set_aside(path)
        with self._lock:
            self._discarded.discard(path)
            self._scores.pop(path, None)

    def seal(self, path: Path) -> None:
        """Make the committed checkpoint at `path` durable.

        Raises OSError, `Superseded` among them, and what `checkpoint_manifest.write` does.
        """
        manifest.write(
            path,
            incarnation=self._incarnation,
            permitted=lambda: fence.refuse_superseded(path.parent, self._incarnation),
        )

    def saved(self, place: Path) -> None:
        """A save to `place` is durable: nothing is left behind there but by one that fails."""
        with self._lock:
            self._clean.add(place)

    def remove_failed(self, path: Path) -> None:
        """Remove what a save to `path` that failed has left: its space is wanted."""
        with self._lock:
            self._clean.discard(path.parent)
        with contextlib.suppress(OSError):
            for left in path.parent.glob(f"{path.name}{files.TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
            if files.is_committed(path) and not files.is_durable(path):
                files.remove(Checkpoint(step=int(path.name), path=path))

    def remove_debris(self, place: Path) -> None:
        """Remove what was left behind, until a save has succeeded. No save is in flight there."""
        with self._lock:
            if place in self._clean:
                return
        try:
            files.remove_debris(place)
        except OSError as error:
            # It takes space; a save may succeed all the same.
            _log.warning("what an earlier save left behind could not be removed: %s", error)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Remove a checkpoint that is not of the run's past; never take it for one again."""
        with self._lock:
            self._discarded.add(checkpoint.path)
            self._scores.pop(checkpoint.path, None)
        try:
            files.remove(checkpoint)
        except FileNotFoundError:
            pass  # Another has removed it.
        except OSError as error:
            _log.warning("a checkpoint that the run has gone back from stays: %s", error)
            return
        with self._lock:
            self._discarded.discard(checkpoint.path)

    def discard_after(self, step: int) -> None:
        """Discard what is newer than `step`, durable or not. Never raises for I/O."""
        self._discard_newer(step, lambda _: True)

    def discard_superseded(self, step: int, left_out: Sequence[Entry]) -> None:
        """Of what is newer than `step`, discard what was trained on a batch that is left out.

        What is newer otherwise could not be read, or is unfinished: it is of the run's past. Never
        raises for I/O.
        """

        def unfit(checkpoint: Checkpoint) -> bool:
            try:
                return superseded(read_meta(checkpoint.path), left_out)
            except (OSError, ValueError, KeyError, TypeError):
                return False

        self._discard_newer(step, unfit)

    def _discard_newer(self, step: int, unfit: Callable[[Checkpoint], bool]) -> None:
        for place in self._directories:
            try:
                doomed = [found for found in files.committed(place) if found.step > step]
            except OSError as error:
                _log.warning("checkpoints after step %d cannot be listed: %s", step, error)
                continue
            for checkpoint in doomed:
                if unfit(checkpoint):
                    self.discard(checkpoint)

    def tidy(self) -> None:
        """Remove the durable checkpoints that no rule wants. Never raises for I/O."""
        found = self.all()
        scores = {checkpoint.step: self._score(checkpoint) for checkpoint in found}
        stay = self._retention.kept(scores)
        for checkpoint in found:
            if checkpoint.step not in stay:
                self._remove(checkpoint)
                with self._lock:
                    self._scores.pop(checkpoint.path, None)

    def remove_unfinished(self, place: Path) -> None:
        """Remove what was committed in `place` and never became durable, older than what is.

        The caller has no save in flight there. Never raises for I/O.
        """
        newest = self.newest()
        try:
            left = [found for found in files.committed(place) if not files.is_durable(found.path)]
        except OSError as error:
            _log.warning("what is unfinished in %s cannot be listed: %s", place, error)
            return
        for checkpoint in left:
            if newest is not None and checkpoint.step < newest.step:
                self._remove(checkpoint)

    def size_bytes(self) -> int:
        """What the durable checkpoints take of the disk; what vanishes meanwhile does not count."""
        total = 0
        for checkpoint in self.all():
            try:
                total += files.size_bytes(checkpoint.path)
            except OSError:
                continue
        return total

    def free_bytes(self, place: Path) -> int:
        """What this user may still write to the file system of `place`; -1: nobody can tell."""
        try:
            found = os.statvfs(place)
        except OSError:
            return -1
        return found.f_bavail * found.f_frsize

    def _in(self, place: Path) -> list[Checkpoint]:
        with self._lock:
            discarded = frozenset(self._discarded)
        try:
            durable = [
                found
                for found in files.committed(place)
                if found.path not in discarded and files.is_durable(found.path)
            ]
            return self._accepted(place, durable)
        except OSError as error:
            _log.warning("the checkpoints in %s cannot be listed: %s", place, error)
            return []

    def _accepted(self, place: Path, found: list[Checkpoint]) -> list[Checkpoint]:
        return fence.accepted(found, fence.read(place)) if self._incarnation else found

    def _score(self, checkpoint: Checkpoint) -> float | None:
        wanted = self._retention
        if not wanted.best:
            return None
        with self._lock:
            if checkpoint.path in self._scores:
                return self._scores[checkpoint.path]
        score = _measured(checkpoint.path, wanted.metric)
        with self._lock:
            self._scores[checkpoint.path] = score
        return score

    def _remove(self, checkpoint: Checkpoint) -> None:
        try:
            files.remove(checkpoint)
        except FileNotFoundError:
            pass  # Another has removed it.
        except OSError as error:
            # It takes space; what is newer is durable all the same.
            _log.warning("an old checkpoint could not be removed: %s", error)


def _measured(path: Path, metric: str) -> float | None:
    try:
        meta = read_meta(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return meta.measured(metric)
