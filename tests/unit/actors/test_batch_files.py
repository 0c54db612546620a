"""The batch of a fault as a file: exact, small, few, and never in the way."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from trainerd.actors.batch_files import FILES, BatchFiles
from trainerd.actors.errors import DataError
from trainerd.actors.feed import Loaded


def files(directory: Path, **options: Any) -> BatchFiles:
    return BatchFiles(place=lambda batch: directory / "kept" / f"batch-{batch}.npz", **options)


def loaded(slots: Any, *, batch: int = 3, error: DataError | None = None) -> Loaded:
    """Two slots of two examples, and one of padding."""
    weights = np.array([1.0, 0.5, 0.0], np.float32)
    return Loaded(batch=batch, slots=slots, placed_weights=weights, weights=weights, error=error)


def cut(dtype: Any = np.float32) -> Any:
    return np.arange(12).reshape(3, 2, 2).astype(dtype)


def test_examples_lie_in_their_order_by_their_names_and_without_padding(tmp_path: Path) -> None:
    kept = files(tmp_path)
    kept.keep(loaded({"x": cut(), "more": (cut(np.int32), cut(ml_dtypes.bfloat16))}), 2)

    with np.load(kept.place(3), allow_pickle=False) as found:
        assert sorted(found) == ["batch/more/0", "batch/more/1", "batch/x", "weights"]
        np.testing.assert_array_equal(found["batch/x"], np.arange(8.0).reshape(4, 2))
        assert found["batch/more/0"].dtype == np.int32
        np.testing.assert_array_equal(found["batch/more/1"], np.arange(8.0).reshape(4, 2))
        np.testing.assert_array_equal(found["weights"], [1.0, 0.5])


def test_a_batch_that_is_one_array_has_no_path(tmp_path: Path) -> None:
    kept = files(tmp_path)
    kept.keep(loaded(cut()), 2)
    with np.load(kept.place(3)) as found:
        assert sorted(found) == ["batch", "weights"]


def test_what_is_large_or_was_never_made_is_not_kept(tmp_path: Path) -> None:
    small = files(tmp_path, most_bytes=47)
    small.keep(loaded(cut()), 2)
    files(tmp_path).keep(loaded(cut(), error=DataError("no such file")), 2)
    assert not (tmp_path / "kept").exists()


def test_only_the_newest_few_are_kept(tmp_path: Path) -> None:
    kept = files(tmp_path)
    for batch in range(10):
        kept.keep(loaded(cut(), batch=batch), 2)
    assert len(list((tmp_path / "kept").iterdir())) == FILES
    assert kept.place(9).exists()


def test_what_nobody_will_ask_for_is_removed(tmp_path: Path) -> None:
    kept = files(tmp_path)
    kept.keep(loaded(cut()), 2)
    kept.forget(3)
    kept.forget(3)
    kept.forget(-1)
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_full_disk_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        files(tmp_path).keep(loaded(cut()), 2)
    assert "batch 3 could not be kept" in caplog.text
