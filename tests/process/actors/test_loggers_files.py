"""What the loggers' files hold after a process died or its disk was full."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMITED = """
import resource, signal, sys
from pathlib import Path
from trainerd.actors.loggers.appending import AppendedFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = AppendedFile(Path(sys.argv[1]))
file.append("first")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        file.append("second line")
    except OSError as error:
        print(error.errno)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
if sys.argv[2] == "append":
    file.append("third")
file.close()
"""


@pytest.mark.parametrize(("then", "left"), [("append", "first\nthird\n"), ("close", "first\n")])
def test_what_a_write_that_ran_out_of_space_has_left_does_not_stay(
    then, left, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    script = [sys.executable, "-c", LIMITED, str(path), then]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.split()) == 2
    assert path.read_text() == left


def test_lines_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "m"
    script = (
        "import os, sys\n"
        "from trainerd.actors.loggers.csv_logger import CsvLogger\n"
        "logger = CsvLogger(sys.argv[1])\n"
        "logger.log(7, {'loss': 1.0})\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    with path.open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["7"]
