"""Writes tests/behaviours.md, the list of what training does and the test that holds it to it.

The rows are the training library's requirements; a test names those it covers at the beginning of
its own name: `test_t05_…`, or `test_w05_w06_…` for two. With `--check` nothing is written: a stale
list, a row without a test and a test of a row that there is not are told instead.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]
LIST = Path("tests") / "behaviours.md"

Row: TypeAlias = tuple[str, int]
"""A group and a number: ("T", 5)."""

GROUPS = {
    "T": "Engine and accumulation",
    "O": "State, callbacks and loggers",
    "W": "Exactness: what often goes wrong in training loops and must not here",
    "X": "Checkpoint saving that can be relied on",
}

ROWS: tuple[Row, ...] = (
    *(("T", number) for number in range(1, 24)),
    *(("O", number) for number in range(1, 15)),
    *(("W", number) for number in (1, *range(3, 13), *range(15, 19), 20, 21, 23, 26, 29, 30, 32)),
    *(("X", number) for number in (1, 2, 5, 6, 11, 14)),
)

_NAME = re.compile(r"test_((?:[towx]\d+_)+)(.*)")

HEADING = """# Training behaviours

Made by `ops/dev/behaviours.py` from the names of the tests; `make check` says when it is stale.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One test and the rows it covers. `path` is relative to the root."""

    rows: tuple[Row, ...]
    sentence: str
    path: str
    test: str


def behaviours(root: Path) -> Iterator[Behaviour]:
    """Yield the tests below `root`/tests that name rows, by file and place."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        tests = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for node in sorted(tests, key=lambda node: node.lineno):
            named = _NAME.fullmatch(node.name)
            if named is None:
                continue
            ids, rest = named.groups()
            yield Behaviour(
                rows=tuple((row[0].upper(), int(row[1:])) for row in ids.split("_") if row),
                sentence=sentence(ast.get_docstring(node), rest),
                path=path.relative_to(root).as_posix(),
                test=node.name,
            )


def sentence(docstring: str | None, name: str) -> str:
    """Say what a test is about: its docstring's first line, or else its name."""
    said = (docstring or "").strip().partition("\n")[0]
    if not said:
        said = name.replace("_s_", "'s ").replace("_", " ")
    return said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")


def listing(found: Sequence[Behaviour]) -> str:
    """Return the list as Markdown."""
    parts = [HEADING]
    for group, title in GROUPS.items():
        lines = [
            f"| {group}{number} | {_cell(one.sentence)} | `{one.path}::{one.test}` |"
            for _, number in (row for row in ROWS if row[0] == group)
            for one in found
            if (group, number) in one.rows
        ]
        head = [f"\n## {group}. {title}\n", "| id | behaviour | test |", "|---|---|---|"]
        parts.append("\n".join([*head, *lines]) + "\n")
    return "".join(parts)


def problems(found: Sequence[Behaviour]) -> list[str]:
    """Say which rows have no test, and which tests name a row that there is not."""
    covered = {row for one in found for row in one.rows}
    missing = [f"{group}{number}" for group, number in ROWS if (group, number) not in covered]
    strange = [
        f"{one.path}: {one.test} names {group}{number}, which is not a row"
        for one in found
        for group, number in one.rows
        if (group, number) not in ROWS
    ]
    return ([f"no test is named after {', '.join(missing)}"] if missing else []) + strange


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Write the list, or compare it with `--check`; 1 if anything is wrong."""
    found = list(behaviours(root))
    fresh, path = listing(found), root / LIST
    wrong = problems(found)
    if arguments != ["--check"]:
        path.write_text(fresh, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != fresh:
        wrong.append(f"{LIST} is stale: run python ops/dev/behaviours.py")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
