"""The program: a virtual environment for each version, beside those before it.

A version is named by its release and a digest of all that it is made from, so that installing the
same again does nothing. It is fit when its stamp, written last, is there. A process that runs keeps
the version it was started from, and finds it where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from places import SOURCE, Places
from work import InstallError, Work, run, say

sys.path.append(str(SOURCE / "ops/dev"))
import installers

STAMP = "trainerd-installed.json"
PINS = SOURCE / "ops/requirements/runtime.txt"
IMPORTS = (
    "import grain, jax, optax, orbax.checkpoint, xxhash, trainerd.daemon.serve, "
    "trainerd.actors.launcher.server, trainerd.actors.trainer, trainerd.clients.main"
)
_UNREACHABLE = (Path("/root"), Path("/home"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be installed. `wheel` None: built from this tree.

    `extras`: of the project's optional dependencies, such as "cuda". `system_packages`: use the
    interpreter's own packages and install nothing but trainerd.
    """

    wheel: Path | None = None
    extras: tuple[str, ...] = ()
    system_packages: bool = False


def install(places: Places, wanted: Wanted, work: Work) -> bool:
    """Have the wanted version be the current one; return whether another one was."""
    refuse_private_interpreter(Path(os.path.realpath(sys.executable)))
    if work.dry and wanted.wheel is None:
        work.do("build the wheel and make a version of it, if it is another", lambda: None)
        return True
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainerd-")))
        wheel = wanted.wheel or _built_wheel(scratch)
        name = _name(wheel, wanted)
        version = places.versions / name
        if not (version / STAMP).exists():
            work.do(f"make {version}", lambda: _make(places, version, wheel, wanted))
    return work.link(places.current, f"versions/{name}")


def remove_unused(places: Places, work: Work) -> None:
    """Remove the versions that nothing needs: neither current, nor the one before, nor running."""
    if not places.versions.is_dir():
        return
    current = places.current.resolve()
    others = [path for path in places.versions.iterdir() if path != current]
    others.sort(key=lambda path: path.stat().st_mtime)
    in_use = _command_lines()
    for path in others[:-1]:
        if not any(f"{places.seen(path)}/" in line for line in in_use):
            work.remove(path)


def refuse_private_interpreter(python: Path) -> None:
    """Raise `InstallError` if the services' users could not run this interpreter."""
    for path in (python, *python.parents):
        closed = not path.stat().st_mode & stat.S_IXOTH
        if closed or path in _UNREACHABLE:
            raise InstallError(
                f"{python} cannot be run by the services' users: {path} "
                f"{'is closed to others' if closed else 'is hidden from services'}; name one that "
                f"can: PYTHON=/usr/bin/python3 ops/install"
            )


def _built_wheel(scratch: Path) -> Path:
    say("build the wheel")
    pip = installers.pip_command(Path(sys.executable))
    environment = installers.pip_environment(os.environ)
    command = [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(scratch), str(SOURCE)]
    run(command, environment=environment)
    (wheel,) = scratch.glob("*.whl")
    return wheel


def _name(wheel: Path, wanted: Wanted) -> str:
    if not wheel.is_file():
        raise InstallError(f"there is no wheel {wheel}")
    parts = wheel.name.split("-")
    if len(parts) < 5 or parts[0] != "trainerd" or wheel.suffix != ".whl":
        raise InstallError(f"{wheel} is not a wheel of trainerd: expected trainerd-VERSION-….whl")
    hasher = hashlib.sha256(wheel.read_bytes())
    hasher.update(PINS.read_bytes())
    how = [
        *sorted(wanted.extras),
        wanted.system_packages,
        sys.version,
        os.path.realpath(sys.executable),
    ]
    hasher.update(json.dumps(how).encode())
    return f"{parts[1]}-{hasher.hexdigest()[:10]}"


def _make(places: Places, version: Path, wheel: Path, wanted: Wanted) -> None:
    environment = installers.pip_environment(os.environ)
    version.parent.mkdir(parents=True, exist_ok=True)
    run(["rm", "-rf", str(version)])
    inherit = ["--system-site-packages"] if wanted.system_packages else []
    run([sys.executable, "-E", "-s", "-m", "venv", "--without-pip", *inherit, str(version)])
    python = version / "bin/python"
    try:
        pip = [*installers.pip_command(python), "install", "--quiet", "--no-compile"]
    except installers.EnvironmentFailure as error:
        raise InstallError(str(error)) from error
    if not wanted.system_packages:
        run([*pip, "--require-hashes", "-r", str(PINS)], environment=environment)
    if wanted.extras:
        with tempfile.NamedTemporaryFile("w", prefix="trainerd-", suffix=".txt") as pins:
            pins.write(_without_hashes(PINS.read_text()))
            pins.flush()
            named = f"{wheel.resolve()}[{','.join(sorted(wanted.extras))}]"
            run([*pip, "--constraint", pins.name, named], environment=environment)
    run([*pip, "--no-deps", "--force-reinstall", str(wheel.resolve())], environment=environment)
    # Services may not write here: without bytecode each start would compile all it imports.
    strip = ["-s", str(places.root), "-p", "/"] if places.staged else []
    library = str(next((version / "lib").glob("python3*/site-packages")))
    run([str(python), "-m", "compileall", "-q", *strip, library], may_fail=True)
    if places.staged:
        _unstage(version, places.root)
    else:
        run([str(python), "-E", "-s", "-c", IMPORTS])
    (version / STAMP).write_text(json.dumps({"wheel": wheel.name, "python": sys.version}) + "\n")


def _without_hashes(pins: str) -> str:
    lines = pins.replace("\\\n", " ").splitlines()
    return "".join(f"{line.partition('--hash=')[0].rstrip()}\n" for line in lines)


def _unstage(version: Path, root: Path) -> None:
    """Let the scripts of an environment that was made below `root` name it as it will be."""
    before, after = f"{root}/opt/".encode(), b"/opt/"
    for path in [*(version / "bin").iterdir(), version / "pyvenv.cfg"]:
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        if before in content and b"\0" not in content:
            path.write_bytes(content.replace(before, after))


def _command_lines() -> Sequence[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # It has ended meanwhile.
            found.append(os.fsdecode(command.replace(b"\0", b" ")))
    return found
