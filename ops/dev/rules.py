"""Checks ops/prometheus with promtool and amtool: configurations, rules, and the rules' own tests.

Both come from Debian (prometheus, prometheus-alertmanager); without them the check is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import buf

PLACE = Path(__file__).resolve().parents[2] / "ops" / "prometheus"
TIMEOUT_S = 120.0
PACKAGES: Mapping[str, str] = {"promtool": "prometheus", "amtool": "prometheus-alertmanager"}
"""Where Debian has the tools."""


def commands(place: Path) -> list[list[str]]:
    """What is run in `place`, each to exit 0."""
    tests = sorted(str(path.relative_to(place)) for path in (place / "tests").glob("*.yml"))
    return [
        ["promtool", "check", "config", "prometheus.yml"],
        ["promtool", "test", "rules", *tests],
        ["amtool", "check-config", "alertmanager.yml"],
    ]


def main(place: Path = PLACE) -> int:
    """Run them all; print what those that fail say."""
    missing = [tool for tool in PACKAGES if shutil.which(tool) is None]
    if missing:
        wanted = ", ".join(f"{tool} (Debian: {PACKAGES[tool]})" for tool in missing)
        print(f"not found: {wanted}; alert rules are not checked here, CI does")
        return buf.SKIPPED
    failed = False
    for command in commands(place):
        done = subprocess.run(
            command,
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            failed = True
            print(f"$ {' '.join(command)}\n{done.stdout.rstrip()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
