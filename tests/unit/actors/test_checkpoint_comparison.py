"""Comparing leaves: by path, shape and dtype; what differs is named, and what it may be now."""

from __future__ import annotations

import pytest

from trainerd.actors.checkpoint_comparison import compare
from trainerd.actors.errors import CheckpointMismatchError

HELD = {
    "params/dense/kernel": "float32[8, 8]",
    "params/dense/bias": "float32[8]",
    "opt_state/0/mu/dense/kernel": "float32[8, 8]",
    "opt_state/0/nu/dense/kernel": "float32[8, 8]",
    "step": "int32[]",
}


def refusal(here: dict[str, str], there: dict[str, str] | None = None) -> str:
    with pytest.raises(CheckpointMismatchError) as raised:
        compare(7, there or HELD, here)
    return str(raised.value)


def renamed(*pairs: tuple[str, str]) -> dict[str, str]:
    """The program's leaves: those held, under other names."""
    names = dict(pairs)
    return {names.get(name, name): kind for name, kind in HELD.items()}


def test_equal_leaves_are_accepted_in_any_order() -> None:
    compare(7, HELD, dict(reversed(HELD.items())))


def test_a_leaf_that_was_renamed_is_named_with_its_new_name() -> None:
    text = refusal(renamed(("params/dense/bias", "params/dense/offset")))
    assert (
        "params/dense/bias (float32[8]) is not in the program, which has params/dense/offset of "
        "that kind: renamed to it?" in text
    )
    assert "params/dense/offset (float32[8]) is not in the checkpoint" in text
    assert "name the leaves as they were" in text


def test_of_several_of_a_kind_the_one_with_the_nearest_path_is_suggested() -> None:
    text = refusal(
        renamed(
            ("opt_state/0/mu/dense/kernel", "opt_state/0/m/dense/kernel"),
            ("params/dense/kernel", "params/layer/kernel"),
        )
    )
    assert "opt_state/0/mu/dense/kernel (float32[8, 8]) is not in the program, which has" in text
    assert "which has opt_state/0/m/dense/kernel" in text
    assert "which has params/layer/kernel" in text


def test_where_two_are_as_near_none_is_suggested() -> None:
    here = renamed(
        ("opt_state/0/mu/dense/kernel", "opt_state/0/a/dense/kernel"),
        ("opt_state/0/nu/dense/kernel", "opt_state/0/b/dense/kernel"),
    )
    text = refusal(here)
    assert "renamed" not in text
    assert "opt_state/0/a/dense/kernel (float32[8, 8]) is not in the checkpoint" in text
    assert "run the program and arguments that made it" in text


def test_a_new_leaf_is_never_filled_in() -> None:
    text = refusal(HELD | {"opt_state/1/count": "int32[]"})
    assert "opt_state/1/count (int32[]) is not in the checkpoint" in text


def test_another_shape_or_dtype_is_another_leaf() -> None:
    assert "step is int32[] in the checkpoint, int64[] in the program" in refusal(
        HELD | {"step": "int64[]"}
    )


def test_parameters_come_first_and_the_list_is_bounded() -> None:
    there = {f"opt_state/{number}": "float32[1]" for number in range(20)} | {"params/w": "int8[1]"}
    text = refusal({"step": "int32[]"}, there)
    assert text.index("params/w") < text.index("opt_state/0")
    assert "and 14 more" in text
