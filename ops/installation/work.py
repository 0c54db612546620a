"""Doing what an installation takes, and saying so; or only saying so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TIMEOUT_S = 1800.0
"""Bound on one command; the longest installs all packages from a slow index."""


class InstallError(Exception):
    """It cannot go on; the message says what is missing and what to do."""


class Work:
    """Does one thing after the other; `dry`: says what it would do."""

    def __init__(self, *, dry: bool) -> None:
        self.dry = dry
        self.done = 0

    def do(self, what: str, action: Callable[[], object]) -> None:
        """Do one thing."""
        say(f"would {what}" if self.dry else what)
        self.done += 1
        if not self.dry:
            action()

    def run(self, what: str, command: Sequence[str], *, may_fail: bool = False) -> None:
        """Run a command as one thing."""
        self.do(what, lambda: run(command, may_fail=may_fail))

    def copy(self, source: Path, target: Path) -> bool:
        """Make a file a copy of another; return whether it was not."""
        if target.exists() and target.read_bytes() == source.read_bytes():
            return False
        self.do(f"write {target}", lambda: _copy(source, target))
        return True

    def link(self, path: Path, leads_to: str) -> bool:
        """Make a link lead somewhere, in one step; return whether it did not."""
        if path.is_symlink() and os.readlink(path) == leads_to:
            return False
        self.do(f"link {path} to {leads_to}", lambda: _link(path, leads_to))
        return True

    def remove(self, path: Path) -> None:
        """Remove a file, a link, or a directory with all that is in it."""
        if path.is_symlink() or path.is_file():
            self.do(f"remove {path}", path.unlink)
        elif path.is_dir():
            self.do(f"remove {path}", lambda: shutil.rmtree(path))

    def remove_empty(self, path: Path) -> None:
        """Remove a directory that has nothing in it any more."""
        if path.is_dir() and not any(path.iterdir()):
            self.do(f"remove {path}", path.rmdir)


def say(line: str) -> None:
    """Tell the person at the terminal."""
    print(f"install: {line}", flush=True)


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    may_fail: bool = False,
) -> str:
    """Run a command; return what it printed. Raise `InstallError` with it when it fails."""
    try:
        done = subprocess.run(
            command,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(f"{command[0]} was not done within {TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise InstallError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-12:])
        text = f"{' '.join(command)} failed ({done.returncode}):\n{tail}"
        if not may_fail:
            raise InstallError(text)
        print(f"install: {text}", file=sys.stderr)
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.new")
    scratch.write_bytes(source.read_bytes())
    scratch.chmod(0o644)
    scratch.replace(target)


def _link(path: Path, leads_to: str) -> None:
    if path.exists() and not path.is_symlink():
        raise InstallError(f"{path} is not a link of ours: move it away, and install again")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(leads_to)
    scratch.replace(path)
