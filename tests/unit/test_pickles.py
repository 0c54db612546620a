"""Who unpickles: one module, and what it reads belongs to this user alone."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from trainerd.actors.executables import ExecutableStore, Kept

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("proto", "daemon", "actors", "clients")
DANGEROUS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "_pickle"}
ALLOWED = {
    "actors/trainerd/actors/kept_step.py": {"pickle"},  # reads what ExecutableStore has loaded
    "actors/trainerd/actors/step_executable.py": {"pickle"},  # only writes
}
KEY = "ab"


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module.partition(".")[0])
            case _:
                pass
    return found


def test_nothing_else_unpickles() -> None:
    users = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if used := imported(path) & DANGEROUS:
                users[str(path.relative_to(ROOT))] = used
    assert users == ALLOWED
    assert "pickle.load" not in (ROOT / "actors/trainerd/actors/step_executable.py").read_text()


def test_arrays_are_never_read_with_pickles_in_them() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert "allow_pickle=True" not in path.read_text(), path


@pytest.mark.parametrize("whose", ["file", "directory"])
def test_what_belongs_to_another_user_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    directory = tmp_path / "executables"
    store = ExecutableStore(directory)
    store.keep(KEY, Kept(note=b"note", executable=b"executable"))
    assert store.load(KEY) is not None
    stranger = os.geteuid() + 1
    real = {"file": os.fstat, "directory": os.stat}[whose]

    def foreign(*args: object, **more: object) -> os.stat_result:
        found = list(real(*args, **more))  # type: ignore[operator]
        found[4] = stranger
        return os.stat_result(found)

    monkeypatch.setattr(os, real.__name__, foreign)
    assert store.load(KEY) is None
