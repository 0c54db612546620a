"""What a person sees while a call takes long: a line on the terminal that goes when it is done."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator

from trainerd.clients.session import Session
from trainerd.clients.wording import duration, one_line

_FIRST_S = 0.7
"""Seconds before there is a line at all."""
_EVERY_S = 0.25
_MARKS = "|/-\\"


@contextlib.contextmanager
def waiting(session: Session, doing: str, *, parting: str = "") -> Iterator[None]:
    """Show `doing` and how long it takes, on a terminal only.

    `parting`: what is said when Ctrl-C ends the waiting: what was asked for goes on.
    """
    line = _Line(session, one_line(doing)) if session.progress else None
    try:
        yield
    except KeyboardInterrupt:
        if line is not None:
            line.close()
        if parting:
            session.note(parting)
        raise
    finally:
        if line is not None:
            line.close()


class _Line:
    def __init__(self, session: Session, doing: str) -> None:
        self._session, self._doing = session, doing
        self._over = threading.Event()
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._draw, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _draw(self) -> None:
        drawn, out = 0, self._session.err
        wait_s = _FIRST_S
        while not self._over.wait(wait_s):
            wait_s = _EVERY_S
            taken = duration(time.monotonic() - self._began_s)
            width = shutil.get_terminal_size().columns - 1
            text = f"{_MARKS[drawn % len(_MARKS)]} {self._doing} … {taken}"
            # From the beginning of the line, and what an older, longer one has left is erased.
            out.write(f"\r{text[:width]}\x1b[K")
            out.flush()
            drawn += 1
        if drawn:
            out.write("\r\x1b[K")
            out.flush()
