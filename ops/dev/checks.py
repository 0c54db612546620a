"""Runs every check of the source tree, two at a time, and prints a line for each.

All run even if one fails; the exit status is 1 if any did. A check whose tool is not on this
machine is skipped and says so; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import buf
import tree

ROOT = Path(__file__).resolve().parents[2]
CHECK_TIMEOUT_S = 300.0
"""Bound on one check; the slowest, the types, takes about 30 s from cold."""

PARALLEL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A command that exits 0 when all is well, `buf.SKIPPED` when it cannot run here."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a check ended. `status` is the command's, or None when it ran out of time."""

    check: Check
    status: int | None
    output: str
    duration_s: float


def all_checks(python: Path) -> list[Check]:
    """Return the checks, slowest first; `python` is the environment's interpreter."""
    tools = python.parent
    scripts = ROOT / "ops" / "dev"
    sources = [f"{root}/trainerd/{package}" for root, package in tree.PACKAGES.items()]
    others = ("ops/dev", "ops/installation", "ops/grafana", "ops/demo.py", "ops/gpu_check.py")
    typed = [*sources, *(path for path in others if (ROOT / path).exists())]
    return [
        Check(name="types", command=(str(tools / "mypy"), *typed)),
        Check(name="import contracts", command=(str(tools / "lint-imports"), "--no-logo")),
        Check(name="stubs", command=(str(python), str(scripts / "stubs.py"), "--check")),
        Check(name="protocol", command=(str(python), str(scripts / "buf.py"))),
        Check(name="format", command=(str(tools / "ruff"), "format", "--check", ".")),
        Check(name="lint", command=(str(tools / "ruff"), "check", ".")),
        Check(name="units", command=(str(python), str(scripts / "units.py"))),
        Check(name="tree", command=(str(python), str(scripts / "tree.py"))),
        Check(
            name="fault table",
            command=(str(python), str(scripts / "fault_table.py"), "--check"),
        ),
        Check(name="alert rules", command=(str(python), str(scripts / "rules.py"))),
        Check(
            name="dashboards",
            command=(str(python), str(ROOT / "ops" / "grafana" / "dashboards.py"), "--check"),
        ),
        Check(name="behaviours", command=(str(python), str(scripts / "behaviours.py"), "--check")),
    ]


def run(check: Check) -> Outcome:
    """Run one check to its end or its deadline."""
    started_s = time.monotonic()
    try:
        done = subprocess.run(
            check.command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
        status, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        status, output = None, f"not done within {CHECK_TIMEOUT_S:.0f} s"
    except OSError as error:
        status, output = None, str(error)
    duration_s = time.monotonic() - started_s
    return Outcome(check=check, status=status, output=output.rstrip(), duration_s=duration_s)


def verdict(outcome: Outcome, *, in_ci: bool) -> str:
    """Return "ok", "skipped" or "failed"; nothing may be skipped in CI."""
    match outcome.status:
        case 0:
            return "ok"
        case buf.SKIPPED if not in_ci:
            return "skipped"
        case _:
            return "failed"


def main() -> int:
    """Run all checks and report as they end."""
    in_ci = os.environ.get("CI") == "true"
    failed = False
    with ThreadPoolExecutor(PARALLEL) as pool:
        running = [pool.submit(run, check) for check in all_checks(Path(sys.executable))]
        for future in as_completed(running):
            outcome = future.result()
            word = verdict(outcome, in_ci=in_ci)
            failed = failed or word == "failed"
            print(f"{outcome.check.name:<18}{word:<9}{outcome.duration_s:5.1f} s", flush=True)
            if word != "ok" and outcome.output:
                print("  " + outcome.output.replace("\n", "\n  "), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
