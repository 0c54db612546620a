"""The step metrics of a run on their way to disk: bytes, the ring in memory, the file."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fakes.launcher_process import wait_until
from trainerd.actors.reports import StepRecord
from trainerd.actors.step_ring import MAX_ROW_BYTES, StepRing
from trainerd.actors.step_rows import MAX_METRICS, BackTo, RowWriter, StepRow, decoded
from trainerd.actors.step_store import FILE, RING, StepStore, drain, read_page, rescue
from trainerd.actors.trainer.step_history import NoHistory, StepHistory, open_history


def record(step: int, *, loss: float = 1.0, **metrics: float) -> StepRecord:
    return StepRecord(
        step=step,
        batch=step - 1,
        applied=True,
        loss=loss,
        gradient_norm=0.5,
        metrics=metrics,
        duration_s=0.25,
        data_wait_s=0.125,
        examples=32,
        masked_slots=(),
        total_skipped_batches=0,
        total_masked_slots=0,
    )


def row(step: int, *, loss: float = 1.0, incarnation: int = 1, **metrics: float) -> bytes:
    return RowWriter(incarnation).row(record(step, loss=loss, **metrics), 1000.0 + step)


def rows_of(path: Path, after: int = 0, limit: int = 100_000) -> list[StepRow]:
    return list(read_page(path, after=after, limit=limit, max_bytes=10**9).rows)


def steps_of(path: Path) -> list[int]:
    return [each.step for each in rows_of(path)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StepStore]:
    with closing(StepStore.open(tmp_path / FILE)) as opened:
        yield opened


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[StepRing]:
    opened = StepRing(tmp_path / RING)
    yield opened
    opened.close()


def test_a_row_comes_back_as_it_was() -> None:
    data = RowWriter(3).row(record(7, loss=2.5, accuracy=0.5, learning_rate=1e-3), 12.5)
    assert decoded(data) == StepRow(
        step=7,
        batch=6,
        time=12.5,
        duration_s=0.25,
        data_wait_s=0.125,
        loss=2.5,
        gradient_norm=0.5,
        examples=32,
        incarnation=3,
        metrics={"accuracy": 0.5, "learning_rate": 1e-3},
    )
    assert decoded(RowWriter(1).back_to(9)) == BackTo(9)


def test_metrics_are_bounded_and_odd_names_do_no_harm() -> None:
    many = {f"m{number}": float(number) for number in range(MAX_METRICS + 10)}
    assert len(decoded(row(1, **many)).metrics) == MAX_METRICS  # type: ignore[union-attr]
    odd = decoded(row(1, **{"a\nb": 1.0, "ü" * 500: 2.0}))
    assert isinstance(odd, StepRow)
    assert list(odd.metrics.values()) == [1.0, 2.0]
    assert "a b" in odd.metrics
    writer = RowWriter(1)
    for number in range(3 * MAX_METRICS):
        writer.row(record(1, **{f"name{number}": 1.0}), 0.0)
    assert len(writer._names) <= MAX_METRICS


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x07" * 100, row(1, a=1.0)[:-1]])
def test_anything_else_is_no_row(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a row"):
        decoded(data)


def test_rows_come_out_of_the_ring_in_order_also_around_its_end(tmp_path: Path) -> None:
    ring = StepRing(tmp_path / RING, 4096)
    came: list[bytes] = []
    put: list[bytes] = []
    for number in range(500):
        # Of different lengths, so that the end falls everywhere.
        data = bytes([number % 251]) * (1 + number % 97)
        assert ring.put(data)
        put.append(data)
        if number % 7 == 0:
            rows, mark = ring.take(100)
            came += rows
            ring.drop(mark)
    came += ring.take(100)[0]
    ring.close()
    assert came == put


def test_a_ring_that_is_full_counts_what_it_loses_and_keeps_what_it_has(tmp_path: Path) -> None:
    ring = StepRing(tmp_path / RING, 4096)
    kept = sum(ring.put(b"x" * 100) for _ in range(100))
    assert 30 < kept < 40
    assert ring.lost == 100 - kept
    assert not ring.put(b"x" * (MAX_ROW_BYTES + 1))
    rows, mark = ring.take(1000)
    assert len(rows) == kept
    ring.drop(mark, lost=ring.lost)
    assert ring.lost == 0
    assert ring.put(b"again")
    assert ring.take(10)[0] == [b"again"]
    ring.close()


def test_what_a_killed_process_has_left_is_found_by_the_next(tmp_path: Path) -> None:
    first = StepRing(tmp_path / RING)
    for step in (1, 2, 3):
        first.put(row(step))
    rows, mark = first.take(1)
    first.drop(mark)
    # Nothing is closed: it is killed here.
    second = StepRing(tmp_path / RING)
    assert [decoded(data).step for data in second.take(10)[0]] == [2, 3]
    second.put(row(4))
    third = StepRing(tmp_path / RING)
    assert [decoded(data).step for data in third.take(10)[0]] == [2, 3, 4]
    for each in (first, second, third):
        each.close()
    assert len(rows) == 1


def test_a_file_of_another_kind_becomes_an_empty_ring(tmp_path: Path) -> None:
    (tmp_path / RING).write_bytes(b"something else" * 1000)
    ring = StepRing(tmp_path / RING, 4096)
    assert ring.take(10)[0] == []
    ring.close()
    data = bytearray((tmp_path / RING).read_bytes())
    data[8:16] = b"\xff" * 8
    (tmp_path / RING).write_bytes(data)
    ring = StepRing(tmp_path / RING, 4096)
    assert ring.take(10)[0] == []
    assert ring.put(b"x")
    ring.close()


def test_a_step_that_is_trained_again_is_there_once(ring: StepRing, store: StepStore) -> None:
    path = Path(store._db.execute("PRAGMA database_list").fetchone()[2])
    for step in range(1, 6):
        ring.put(row(step, loss=float(step)))
    drain(ring, store)
    # Restored at 2; the rows after it are of a past that is trained anew.
    ring.put(RowWriter(2).back_to(2))
    for step in (3, 4):
        ring.put(row(step, loss=10.0 * step, incarnation=2))
    drain(ring, store)
    found = rows_of(path)
    assert [each.step for each in found] == [1, 2, 3, 4]
    assert [each.loss for each in found] == [1.0, 2.0, 30.0, 40.0]
    assert [each.incarnation for each in found] == [1, 1, 2, 2]


def test_what_is_not_finite_comes_back_so(ring: StepRing, store: StepStore, tmp_path: Path) -> None:
    ring.put(row(1, loss=math.nan, inf=math.inf, nan=math.nan))
    drain(ring, store)
    (found,) = rows_of(tmp_path / FILE)
    assert math.isnan(found.loss)
    assert found.metrics["inf"] == math.inf
    assert math.isnan(found.metrics["nan"])


def test_pages_follow_on_each_other(ring: StepRing, store: StepStore, tmp_path: Path) -> None:
    for step in range(1, 1301):
        ring.put(row(step, **({"late": 1.0} if step > 1000 else {})))
    assert drain(ring, store) == 1300
    path = tmp_path / FILE
    first = read_page(path, after=0, limit=1000, max_bytes=10**9)
    second = read_page(path, after=first.rows[-1].step, limit=1000, max_bytes=10**9)
    assert (len(first.rows), first.more, len(second.rows), second.more) == (1000, True, 300, False)
    assert first.names == ["late"], "of all steps, also of those that come later"
    small = read_page(path, after=0, limit=1000, max_bytes=1000)
    assert (0 < len(small.rows) < 20, small.more) == (True, True)
    assert not read_page(path, after=1300, limit=10, max_bytes=10**9).rows


def test_there_is_nothing_to_read_where_nothing_was_trained(tmp_path: Path) -> None:
    page = read_page(tmp_path / FILE, after=0, limit=10, max_bytes=1000)
    assert (list(page.rows), page.more, page.lost) == ([], False, 0)
    sqlite3.connect(tmp_path / FILE).close()
    assert not read_page(tmp_path / FILE, after=0, limit=10, max_bytes=1000).rows


def test_a_damaged_file_is_put_aside_and_training_keeps_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with closing(StepStore.open(tmp_path / FILE)) as store:
        store.write([StepRow(1, 0, 0.0, 0.1, 0.0, 1.0, 1.0, 8, 1, {})], 0)
    assert steps_of(tmp_path / FILE) == [1]
    assert (tmp_path / f"{FILE}.damaged").exists()


def test_what_is_left_in_memory_is_rescued_before_that_is_freed(tmp_path: Path) -> None:
    memory, files = tmp_path / "memory", tmp_path / "files"
    memory.mkdir()
    files.mkdir()
    ring = StepRing(memory / RING)
    for step in (1, 2):
        ring.put(row(step))
    ring.close()
    assert rescue(memory / RING, files / FILE) == 2
    assert rescue(memory / RING, files / FILE) == 0
    assert steps_of(files / FILE) == [1, 2]
    assert rescue(memory / "none", files / FILE) == 0
    assert rescue(memory / RING, tmp_path / "gone" / FILE) == 0


Opened = Callable[..., StepHistory]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made: list[StepHistory] = []

    def make(*, period_s: float = 0.01, left: list[Path] | None = None) -> StepHistory:
        history = StepHistory(
            StepRing(tmp_path / RING),
            tmp_path / FILE,
            incarnation=1,
            left=left or [],
            period_s=period_s,
            clock=lambda: 5.0,
        )
        made.append(history)
        return history

    yield make
    for history in made:
        history.close()


def test_a_history_is_on_disk_when_it_is_closed(opened: Opened, tmp_path: Path) -> None:
    history = opened(period_s=3600.0)
    for step in range(1, 2001):
        history.stepped(record(step))
    history.went_back(1990)
    history.stepped(record(1991))
    history.close()
    assert steps_of(tmp_path / FILE) == list(range(1, 1992))


def test_rows_reach_the_file_without_being_asked_for(opened: Opened, tmp_path: Path) -> None:
    history = opened()
    history.stepped(record(1))
    wait_until(lambda: steps_of(tmp_path / FILE) == [1], "the row")


def test_a_file_that_cannot_be_written_costs_nothing_until_it_can(
    opened: Opened, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FILE).mkdir()
    history = opened()
    told = ""
    for step in range(1, 4):
        history.stepped(record(step))

    def complained() -> bool:
        nonlocal told
        told += capfd.readouterr().err
        return "step metrics wait" in told

    wait_until(complained, "the complaint")
    (tmp_path / FILE).rmdir()
    wait_until(lambda: steps_of(tmp_path / FILE) == [1, 2, 3], "the rows")
    assert told.count("step metrics wait") == 1


def test_what_waited_elsewhere_comes_first(opened: Opened, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    ring = StepRing(elsewhere)
    ring.put(row(1))
    ring.close()
    history = opened(left=[elsewhere])
    history.stepped(record(2))
    history.close()
    assert steps_of(tmp_path / FILE) == [1, 2]
    assert not elsewhere.exists()


def test_without_a_place_there_is_no_history_and_that_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(open_history("", "", 1), NoHistory)
    assert isinstance(open_history(str(tmp_path / "gone"), "", 1), NoHistory)
    assert "no step metrics are kept" in capfd.readouterr().err
