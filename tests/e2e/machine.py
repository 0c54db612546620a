"""A machine with a systemd of its own: this one's, booted in namespaces over a view of its root."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.host import eventually
from trainerd.clients import Client
from trainerd.v1 import run_pb2

REPOSITORY = Path(__file__).resolve().parents[2]
SEEN = Path("/srv/trainerd")
"""Where the machine has the repository."""
PYTHON = Path("/usr/bin/python3")
SYSTEMD = Path("/lib/systemd/systemd")
BOOT_S = 60.0
COMMAND_S = 120.0
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@functools.cache
def why_not() -> str:
    """Why no machine can be booted here; empty: it can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [str(path) for path in (SYSTEMD, PYTHON) if not path.exists()]
    missing += [each for each in ("unshare", "nsenter", "pivot_root") if not shutil.which(each)]
    if missing:
        return f"needs {', '.join(missing)}"
    if _cgroups() is None:
        return "needs cgroup2 to be mounted"
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    probe = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=False)
    if found.stdout.strip() != release:
        return f"needs {PYTHON} to be Python {release} with ensurepip"
    allowed = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if allowed.returncode == 0 else "needs the right to make namespaces"


class Machine:
    """A machine that runs. `pid`: its systemd, as seen from here."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.folder = folder

    @property
    def root(self) -> Path:
        """Its root directory."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as its root."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", *command],
            env=CLEAN,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        said = f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, f"{said}\n{self.journal(40)}"
        return done

    def shows(self, unit: str, key: str) -> str:
        """A property of a unit; empty while systemd does not answer yet."""
        command = ["systemctl", "show", f"--property={key}", "--value", unit]
        return self.run(*command, check=False).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """The main process of a unit, in the machine's own count."""
        return int(self.shows(unit, "MainPID"))

    def is_active(self, unit: str) -> bool:
        """Whether a unit runs."""
        return self.shows(unit, "ActiveState") == "active"

    def journal(self, lines: int, *arguments: str) -> str:
        """The newest lines of its journal."""
        command = ["journalctl", "--no-pager", "-n", str(lines), *arguments]
        enter = ["nsenter", "-t", str(self.pid), "-m"]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, check=False)
        return done.stdout

    def client(self) -> Client:
        """A client of its daemon."""
        return Client(f"unix:{self.root}/run/trainerd/trainerd.sock")

    def get(self, run: str) -> run_pb2.Run:
        """A run now."""
        with self.client() as client:
            return client.get_run(run).run


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine that has booted; it is gone afterwards, and so are its processes."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="td-", dir="/tmp"))
        stack.callback(folder.rmdir)
        cgroup = _own_cgroup(folder.name)
        stack.callback(_remove_cgroups, cgroup)
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        namespaces = ["--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net"]
        namespaces.append("--cgroup")
        boot = str(Path(__file__).with_name("machine_boot.sh"))
        packages = next(Path(sys.prefix, "lib").glob("python3*/site-packages"))
        arguments = ["sh", boot, str(folder), str(REPOSITORY), str(packages)]
        enter = (
            f'echo $$ > {cgroup}/cgroup.procs; exec unshare {" ".join(namespaces)} --cgroup "$@"'
        )
        process = subprocess.Popen(
            ["sh", "-c", enter, "boot", *namespaces, *arguments],
            env=CLEAN,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(process.wait, 30)
        stack.callback(os.killpg, process.pid, signal.SIGKILL)

        def init() -> int:
            log.seek(0)
            assert process.poll() is None, f"it does not boot: {log.read()}"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            name = Path(f"/proc/{children[0]}/comm").read_text().strip() if children else ""
            return int(children[0]) if name == "systemd" else 0

        made = Machine(int(eventually("systemd starts", init, BOOT_S)), folder)
        stack.callback(os.kill, made.pid, signal.SIGKILL)
        eventually("the machine is up", lambda: made.is_active("multi-user.target"), BOOT_S)
        yield made


def _cgroups() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


def _own_cgroup(name: str) -> Path:
    cgroups = _cgroups()
    assert cgroups is not None
    path = cgroups / name
    path.mkdir()
    return path


def _remove_cgroups(path: Path) -> None:
    """Once its last process is gone a group can be removed, the inner ones first."""
    deadline = time.monotonic() + 10.0
    while True:
        try:
            for inner in sorted(path.rglob("*/"), reverse=True):
                inner.rmdir()
            path.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
