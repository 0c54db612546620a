"""Makes `.venv` at the top of the repository fit for use, or says that it is (`--check`).

It is fit when its stamp, written last, agrees with the pinned requirements, the project's own
metadata, the place of the repository and the interpreter, and when every package is still there.
Anything else is made anew. The whole of it needs no more than the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import installers

LOCK_TIMEOUT_S = 1200.0
"""Longest wait for another make that is making the same environment."""

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = "import grain, grpc, jax, optax, orbax.checkpoint, trainerd.actors, trainerd.v1.protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a finished environment was made from and what it holds."""

    digest: str
    root: str
    python: str
    packages: list[str]


def requirements(root: Path) -> tuple[Path, Path]:
    """Return the files that pin the installer and everything else."""
    directory = root / "ops" / "requirements"
    return directory / "installer.txt", directory / "development.txt"


def digest(root: Path) -> str:
    """Hash what decides the contents of an environment; settings of linters do not."""
    with (root / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    parts = [project["build-system"], project["project"], project["tool"]["hatch"]]
    hasher = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for path in requirements(root):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def installed(site_packages: Path) -> list[str]:
    """Return the names of the installed distributions' metadata folders."""
    return sorted(path.name for path in site_packages.glob("*.dist-info"))


def fit(root: Path, *, python: str, site_packages: Path) -> bool:
    """Whether the stamp in `root/.venv` holds for this interpreter and these packages."""
    try:
        stamp = Stamp(**json.loads(stamp_file(root).read_text()))
    except (OSError, ValueError, TypeError):
        return False
    same = (stamp.digest, stamp.root, stamp.python) == (digest(root), str(root), python)
    return same and set(stamp.packages) <= set(installed(site_packages))


def stamp_file(root: Path) -> Path:
    """The stamp: empty while the environment is being made."""
    return root / ".venv" / "trainerd-environment.json"


@contextmanager
def sole_maker(root: Path) -> Iterator[None]:
    """Hold the repository's lock: two makes must not write one environment.

    The directory itself is locked, so there is no file to leave behind.
    """
    descriptor = os.open(root, os.O_RDONLY)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise installers.EnvironmentFailure(
                        f"another make held .venv for {LOCK_TIMEOUT_S:.0f} s; end it and try again"
                    ) from None
            if not said:
                installers.say("another make is preparing .venv; waiting for it")
                said = True
            time.sleep(0.2)  # flock has no deadline of its own
        yield
    finally:
        os.close(descriptor)


def make(root: Path) -> None:
    """Make the environment of `root`. Raise `EnvironmentFailure` with what is missing."""
    started_s = time.monotonic()
    venv = root / ".venv"
    python = venv / "bin" / "python"
    if checked(root, python):
        return
    ours = not venv.exists() or stamp_file(root).exists()
    installers.say(f"making .venv with Python {'.'.join(map(str, sys.version_info[:3]))}")
    if ours or not runs(python):
        remove(venv)
        venv.mkdir()
        stamp_file(root).touch()
        run_quietly([sys.executable, "-E", "-s", "-m", "venv", "--without-pip", str(venv)])
    else:
        stamp_file(root).touch()
    installer, pinned = requirements(root)
    tool = installers.install(python, installer=installer, requirements=pinned, project=root)
    # Also compiles the bytecode, which else the first trainer would do within its deadline.
    run_quietly([str(python), "-E", "-s", "-c", IMPORTS])
    run_quietly([str(python), "-E", "-s", str(Path(__file__).resolve()), "--stamp"])
    installers.say(f".venv is ready after {time.monotonic() - started_s:.0f} s ({tool})")


def checked(root: Path, python: Path) -> bool:
    """Whether the environment's own interpreter runs and finds everything fit."""
    command = [str(python), "-E", "-s", str(root / "ops/dev/environment.py"), "--check"]
    return installers.output_of(command, os.environ)[0] == 0


def runs(python: Path) -> bool:
    """Whether `python` starts and is recent enough."""
    command = [str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return installers.output_of(command, os.environ)[0] == 0


def remove(venv: Path) -> None:
    """Remove a broken, half-made or outdated environment."""
    if venv.is_symlink() or venv.is_file():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)


def run_quietly(command: list[str]) -> None:
    """Run a step that must succeed; show its output only if it does not."""
    status, output = installers.output_of(command, installers.pip_environment(os.environ))
    if status != 0:
        raise installers.EnvironmentFailure(f"{' '.join(command)} failed:\n{output.rstrip()}")


def write_stamp(root: Path, *, python: str, site_packages: Path) -> None:
    """Declare the environment finished."""
    stamp = Stamp(
        digest=digest(root), root=str(root), python=python, packages=installed(site_packages)
    )
    path = stamp_file(root)
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(stamp)))
    unfinished.replace(path)


def main(arguments: list[str]) -> int:
    """Run with `--check` or `--stamp` by the environment's interpreter, else by any other."""
    site_packages = Path(sysconfig.get_path("purelib"))
    match arguments:
        case ["--check"]:
            return 0 if fit(ROOT, python=sys.version, site_packages=site_packages) else 1
        case ["--stamp"]:
            write_stamp(ROOT, python=sys.version, site_packages=site_packages)
            return 0
        case []:
            try:
                with sole_maker(ROOT):
                    make(ROOT)
            except (installers.EnvironmentFailure, OSError, subprocess.SubprocessError) as error:
                installers.say(str(error))
                return 1
            return 0
        case _:
            installers.say(f"expected no argument, --check or --stamp, got {' '.join(arguments)}")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
