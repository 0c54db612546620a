"""Without a GPU the GPU check says that it saw nothing, and does not pass for one that did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "ops/gpu_check.py"


def test_without_a_gpu_nothing_is_seen_and_it_says_so(tmp_path: Path) -> None:
    report = tmp_path / "gpu-check.md"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output", report],
        # Where nvidia-smi is, this does not find it.
        env={**os.environ, "PATH": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done
    assert "nothing was seen on a GPU" in done.stderr
    table = report.read_text().splitlines()
    assert "| the driver shows a GPU | no | nvidia-smi is not here, or shows none |" in table
    assert "| jax shows it | no | cpu |" in table
    assert not [line for line in table if "| yes |" in line]
