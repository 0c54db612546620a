"""Folders of hosts: short enough for the paths of sockets, gone with the test that made them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES, LINES = 16, 25
"""How many logs are told of, those that were written last, and of each how many lines."""


@contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A folder that is removed in the end; where something is raised its logs are told first."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield folder
    except BaseException:
        print(last_words(folder))
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)


def last_words(folder: Path) -> str:
    """The ends of the logs in a folder of hosts, the newest last."""
    found = [each for each in folder.rglob("*.log") if each.is_file() and each.stat().st_size]
    newest = sorted(found, key=lambda each: each.stat().st_mtime)[-FILES:]
    return "\n".join(f"--- {each}\n{_end(each)}" for each in newest)


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LINES:])
