"""The list of behaviours: each row has a test, and the list says which."""

from __future__ import annotations

from pathlib import Path

import pytest

import behaviours

SOURCE = '''
def test_t05_a_step_that_fails_is_skipped(): ...

def test_w5_w06_gradients_of_several_devices_are_a_mean():
    """One reduction for all.

    And more text | here.
    """

class TestMore:
    async def test_o1_an_epoch_s_state_is_its_own(self): ...

def test_without_a_row(): ...

def test_x_ray(): ...
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_a.py").write_text(SOURCE)
    return tmp_path


def everything() -> str:
    names = [f"test_{group.lower()}{number:02}_x" for group, number in behaviours.ROWS]
    return "\n".join(f"def {name}(): ..." for name in names)


def test_rows_are_read_from_the_names_of_tests(root: Path) -> None:
    found = list(behaviours.behaviours(root))
    assert [(one.rows, one.sentence) for one in found] == [
        ((("T", 5),), "A step that fails is skipped."),
        ((("W", 5), ("W", 6)), "One reduction for all."),
        ((("O", 1),), "An epoch's state is its own."),
    ]


def test_a_test_stands_under_each_of_its_rows(root: Path) -> None:
    text = behaviours.listing(list(behaviours.behaviours(root)))
    test = "`tests/unit/test_a.py::test_w5_w06_gradients_of_several_devices_are_a_mean`"
    assert f"| W5 | One reduction for all. | {test} |\n| W6 | One" in text
    assert "without" not in text


def test_rows_without_a_test_and_tests_without_a_row_are_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "tests" / "test_b.py").write_text("def test_w2_is_not_a_row(): ...")
    assert behaviours.main([], root) == 1
    told = capsys.readouterr().out
    assert told.startswith("no test is named after T1, T2, T3, T4, T6,")
    assert "T5," not in told
    assert "tests/test_b.py: test_w2_is_not_a_row names W2, which is not a row" in told


def test_a_stale_list_is_told_and_written_anew(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "tests" / "test_all.py").write_text(everything())
    assert behaviours.main(["--check"], root) == 1
    assert "behaviours.md is stale" in capsys.readouterr().out
    assert behaviours.main([], root) == 0
    assert behaviours.main(["--check"], root) == 0
    (root / "tests" / "unit" / "test_a.py").write_text("def test_t05_another_sentence(): ...")
    assert behaviours.main(["--check"], root) == 1


def test_a_bar_in_a_sentence_does_not_end_its_cell() -> None:
    one = behaviours.Behaviour(rows=(("T", 1),), sentence="a | b.", path="p", test="t")
    assert r"| a \| b. |" in behaviours.listing([one])
