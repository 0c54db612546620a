"""Checks the systemd units: systemd finds nothing wrong with them, and they are tightly closed.

Skipped, and says so, where systemd-analyze is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import buf

SHIPPED = Path(__file__).resolve().parents[1] / "systemd"
EXPOSURE = {"trainerd.service": 1.5, "trainerd-launcher.service": 2.0}
"""Highest exposure that a unit may have, as `systemd-analyze security` counts; 10 is open."""
PROGRAM = "/opt/trainerd/current/bin/"
TIMEOUT_S = 60.0


def problems(analyze: str, shipped: Path) -> list[str]:
    """Say what is wrong with the units of a folder."""
    found = []
    with tempfile.TemporaryDirectory(prefix="td-units-") as folder:
        copies = copied(shipped, Path(folder))
        # A unit's name says where it is sought, so all are verified together.
        status, output = said([analyze, "verify", "--man=no", *map(str, copies)])
        if status != 0 or output:
            found.append(f"systemd-analyze verify:\n{output}")
        for copy in copies:
            limit = EXPOSURE.get(copy.name)
            if limit is None:
                continue
            threshold = f"--threshold={limit * 10:.0f}"
            status, output = said(
                [analyze, "security", "--offline=true", "--no-pager", threshold, str(copy)]
            )
            if status != 0:
                last = output.splitlines()[-1] if output else "no output"
                found.append(f"{copy.name}: more exposed than {limit}: {last}")
    return found


def copied(shipped: Path, folder: Path) -> list[Path]:
    """Copy the units; what they start is replaced by something that exists here."""
    copies = []
    for unit in sorted(shipped.glob("trainerd*.*")):
        if unit.suffix in (".service", ".target"):
            text = unit.read_text()
            for word in {each for each in text.split() if PROGRAM in each}:
                text = text.replace(word, f"{word.partition('=')[0]}=/bin/true")
            copies.append(folder / unit.name)
            copies[-1].write_text(text)
    return copies


def said(command: list[str]) -> tuple[int, str]:
    """Run a command; return its exit status and what it printed."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def main() -> int:
    """Print every problem of the units."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        print("systemd-analyze is not installed (Debian: apt-get install systemd)")
        return buf.SKIPPED
    found = problems(analyze, SHIPPED)
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
