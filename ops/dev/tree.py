"""Checks the source tree itself: namespace roots, and nothing in it that belongs to one machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "proto": "v1",
    "daemon": "daemon",
    "actors": "actors",
    "clients": "clients",
}
"""The source roots, and the one package of the namespace `trainerd` that each holds."""

# Written so that they do not match themselves. The users of examples and tests are nobody's.
FOREIGN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.~$}/-])/(?:(?:home|Users)/(?!(?:ada|alice|bob|somebody|user|you)\b)"
        r"|root/|workspace/|work/|mnt/|media/)[\w.-]"
    ),
    "the address of a package index": re.compile(
        r"py[p]i\.org|python[h]osted|npm[j]s\.(?:org|com)|deb\.deb[i]an\.org|--(?:extra-)?index-ur[l]"
    ),
}


def files(root: Path) -> list[Path]:
    """Return the files that are, or would be, committed; without git, all that were not made."""
    # The one who runs this may not own the clone.
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listed = subprocess.run(
            [*git, "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return [path for path in root.rglob("*") if path.is_file() and not made(path, root)]
    paths = (root / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def made(path: Path, root: Path) -> bool:
    """Whether a tool made this file: it lies in one of the directories that .gitignore names."""
    ignored = {".git", *(root / ".gitignore").read_text().replace("/", "").split()}
    return any(part in ignored for part in path.relative_to(root).parts)


def namespace_problems(root: Path) -> list[str]:
    """Say what keeps the four source roots from being one namespace."""
    problems = []
    for source, package in PACKAGES.items():
        namespace = root / source / "trainerd"
        if (namespace / "__init__.py").exists():
            problems.append(f"{source}/trainerd/__init__.py hides the other packages: remove it")
        if not (namespace / package / "py.typed").exists():
            problems.append(f"{source}/trainerd/{package}/py.typed is missing")
        problems += [
            f"{source}/trainerd/{path.name} belongs to another source root: move it"
            for path in sorted(namespace.iterdir())
            if path.name not in {package, "__init__.py", "__pycache__"}
        ]
    return problems


def foreign_text(text: str) -> list[tuple[int, str]]:
    """Return the lines, from 1, that name a machine's path or an index, and which of the two."""
    return [
        (number, what)
        for number, line in enumerate(text.splitlines(), start=1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]


def main() -> int:
    """Print every problem of the tree."""
    problems = namespace_problems(ROOT)
    for path in files(ROOT):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        problems += [f"{name}:{line} holds {what}" for line, what in foreign_text(text)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
