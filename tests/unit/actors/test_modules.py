"""Whose a module is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from trainerd.actors.modules import own_modules

NAME = "of_another_thread"


@pytest.fixture
def imports() -> Iterator[list[str]]:
    """Modules that are imported whenever memory is collected, as by a thread that has its turn."""
    names: list[str] = []

    def imported(phase: str, _: Any) -> None:
        names.append(f"{NAME}_{len(names)}")
        sys.modules[names[-1]] = ModuleType(NAME)

    thresholds = gc.get_threshold()
    gc.callbacks.append(imported)
    gc.set_threshold(1)
    yield names
    gc.set_threshold(*thresholds)
    gc.callbacks.remove(imported)
    for name in names:
        del sys.modules[name]


def test_modules_are_listed_while_another_thread_imports(imports: list[str]) -> None:
    before = len(imports)
    assert __name__ in own_modules()
    assert len(imports) > before
