"""Writes the dashboards' JSON beside this file; `--check`: says which are stale.

    python ops/grafana/dashboards.py [--runbook URL] [--out DIR]

`--runbook` is where the pages of ops/docs/runbook are published; panels link to them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import board_checkpoints
import board_daemon
import board_faults
import board_fleet
import board_run
from panels import Board, to_json

HERE = Path(__file__).resolve().parent
RUNBOOK = "https://runbook.example/trainerd"
"""As in ops/prometheus/prometheus.yml."""
BOARDS: tuple[Board, ...] = (
    board_fleet.BOARD,
    board_run.BOARD,
    board_checkpoints.BOARD,
    board_faults.BOARD,
    board_daemon.BOARD,
)


def text(board: Board, runbook: str = RUNBOOK) -> str:
    """Return a dashboard as its file holds it."""
    return json.dumps(to_json(board, runbook), indent=1, ensure_ascii=False) + "\n"


def stale(folder: Path) -> list[str]:
    """Say which files in a folder are not what the boards make of them."""
    fresh = {f"{board.uid}.json": text(board) for board in BOARDS}
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in fresh | there if fresh.get(name) != there.get(name))


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    parser.add_argument("--runbook", default=RUNBOOK, help="where the runbook is published")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write")
    asked = parser.parse_args()
    if asked.check:
        wrong = stale(asked.out)
        for name in wrong:
            print(f"ops/grafana/{name} is stale: run python ops/grafana/dashboards.py")
        return 1 if wrong else 0
    asked.out.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (asked.out / f"{board.uid}.json").write_text(text(board, asked.runbook), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
