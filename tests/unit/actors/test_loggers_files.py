"""Loggers that write: plain lines, CSV rows, JSON objects; whole lines whatever happens."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from trainerd.actors.errors import TrainingError
from trainerd.actors.loggers import ConsoleLogger, CsvLogger, JsonLinesLogger, Loggers
from trainerd.actors.loggers.appending import AppendedFile

HEADER = "time_s,step,kind,name,value"
FILE_LOGGERS = pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])


def clock() -> float:
    return 12.5


@pytest.fixture
def open_loggers() -> Iterator[Any]:
    """Makes file loggers, and closes them."""
    made: list[Any] = []

    def make(kind: Any, path: Path, **options: Any) -> Any:
        made.append(kind(path, clock=clock, **options))
        return made[-1]

    yield make
    for logger in made:
        logger.close()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def objects(path: Path) -> list[Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    lines = path.read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_the_console_gets_one_plain_line_a_call() -> None:
    stream = io.StringIO()
    logger = ConsoleLogger(stream)
    logger.log(12, {"loss": 0.123456789, "learning_rate": 1e-3, "bad": math.nan})
    logger.event(12, "training/step_error", {"error": "ValueError", "message": 'no "x"', "n": 3})
    logger.event(13, "training/interrupted", {"text": "two\nlines", "empty": ""})
    assert stream.getvalue().splitlines() == [
        "step 12  loss=0.123457  learning_rate=0.001  bad=nan",
        r'step 12  training/step_error  error=ValueError  message="no \"x\""  n=3',
        r'step 13  training/interrupted  text="two\nlines"  empty=""',
    ]


def test_the_console_is_standard_error_as_it_is_at_that_moment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = ConsoleLogger()
    logger.log(1, {"loss": 2.0})
    assert capsys.readouterr().err == "step 1  loss=2\n"
    logger.close()
    with pytest.raises(ValueError, match="closed"):
        logger.log(2, {})


def test_a_csv_file_has_a_row_a_metric_so_that_a_new_metric_changes_no_column(
    tmp_path: Path, open_loggers: Any
) -> None:
    path = tmp_path / "new" / "m.csv"
    logger = open_loggers(CsvLogger, path)
    logger.log(1, {"loss": 0.1 + 0.2})
    logger.log(2, {"loss": math.inf, "val, loss": math.nan})
    logger.event(2, "training/step_error", {"error": "KeyError", "message": 'a "b",\r\nc'})
    logger.event(3, "training/interrupted", {})
    logger.log(3, {})
    assert path.read_text().splitlines()[:2] == [HEADER, "12.500,1,metric,loss,0.30000000000000004"]
    assert [tuple(row.values())[1:] for row in rows(path)] == [
        ("1", "metric", "loss", "0.30000000000000004"),
        ("2", "metric", "loss", "inf"),
        ("2", "metric", "val, loss", "nan"),
        ("2", "event", "training/step_error.error", "KeyError"),
        ("2", "event", "training/step_error.message", r'a "b",\r\nc'),
        ("3", "event", "training/interrupted", ""),
    ]
    assert float(rows(path)[0]["value"]) == 0.1 + 0.2


def test_json_lines_are_json_whatever_the_number(tmp_path: Path, open_loggers: Any) -> None:
    path = tmp_path / "new" / "m.jsonl"
    logger = open_loggers(JsonLinesLogger, path)
    logger.log(1, {"loss": 0.1 + 0.2, "a": math.nan, "b": math.inf, "c": -math.inf})
    logger.event(2, "training/step_error", {"message": "é\n", "value": math.nan, "n": 3})
    first, second = objects(path)
    assert first == {
        "time_s": 12.5,
        "step": 1,
        "metrics": {"loss": 0.1 + 0.2, "a": "NaN", "b": "Infinity", "c": "-Infinity"},
    }
    assert math.isnan(float(first["metrics"]["a"]))
    assert float(first["metrics"]["c"]) == -math.inf
    assert second["event"] == "training/step_error"
    assert second["fields"] == {"message": "é\n", "value": "NaN", "n": 3}


NAMES = st.text('ab/ ",\r\n\té=:{}', min_size=1, max_size=8)
VALUES = st.one_of(st.floats(), st.floats().map(np.float64), st.integers(-(2**70), 2**70))


@settings(deadline=None)
@given(metrics=st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_any_number_under_any_name_is_read_back(metrics: dict[str, float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in (CsvLogger, JsonLinesLogger):
            logger = kind(folder / kind.__name__, clock=clock)
            logger.log(1, metrics)
            logger.close()
        came = {row["name"]: row["value"] for row in rows(folder / "CsvLogger")}
        (line,) = objects(folder / "JsonLinesLogger")
    lines = {key.replace("\r", "\\r").replace("\n", "\\n"): x for key, x in metrics.items()}
    for key, value in lines.items():
        assert str(float(came[key])) == str(float(value))
    assert {key: str(float(x)) for key, x in line["metrics"].items()} == {
        key: str(float(x)) for key, x in metrics.items()
    }


@FILE_LOGGERS
def test_what_is_logged_is_in_the_file_at_once(kind, tmp_path: Path, open_loggers: Any) -> None:
    path = tmp_path / "m"
    logger = open_loggers(kind, path)
    logger.log(1, {"loss": 1.0})
    assert "1" in path.read_text().splitlines()[-1]
    assert path.read_text().endswith("\n")


@FILE_LOGGERS
def test_a_file_is_continued_after_a_restart(kind, tmp_path: Path, open_loggers: Any) -> None:
    path = tmp_path / "m"
    for step in (1, 2):
        logger = open_loggers(kind, path)
        logger.log(step, {"loss": 1.0})
        logger.close()
        logger.close()
    text = path.read_text()
    assert text.count("loss") == 2
    assert text.count(HEADER) == (kind is CsvLogger)


@FILE_LOGGERS
def test_a_line_that_a_crash_cut_short_is_removed(kind, tmp_path: Path, open_loggers: Any) -> None:
    path = tmp_path / "m"
    logger = open_loggers(kind, path)
    logger.log(1, {"loss": 1.0})
    logger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:7])
    logger = open_loggers(kind, path)
    logger.log(1, {"loss": 1.0})
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[-1]


def test_a_file_of_nothing_but_a_torn_line_begins_anew(tmp_path: Path, open_loggers: Any) -> None:
    path = tmp_path / "m.csv"
    path.write_text("time_s,st" + "x" * 200_000)
    open_loggers(CsvLogger, path).close()
    assert path.read_text() == HEADER + "\n"


def test_a_long_torn_line_is_found_behind_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text("first\n" + "x" * 200_000)
    file = AppendedFile(path)
    file.append("second")
    file.close()
    assert path.read_text() == "first\nsecond\n"


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("name,age\nx,3\ntorn")
    with pytest.raises(TrainingError, match="name a file that is not there yet"):
        CsvLogger(path)
    assert path.read_text() == "name,age\nx,3\ntorn"


def test_a_closed_file_says_so(tmp_path: Path, open_loggers: Any) -> None:
    logger = open_loggers(JsonLinesLogger, tmp_path / "m")
    logger.close()
    with pytest.raises(ValueError, match="is closed"):
        logger.log(1, {"loss": 1.0})


def test_t07_a_full_disk_stops_nothing_and_costs_the_other_loggers_nothing(
    tmp_path: Path, open_loggers: Any
) -> None:
    full = open_loggers(JsonLinesLogger, Path("/dev/full"))
    sound = open_loggers(JsonLinesLogger, tmp_path / "m")
    loggers = Loggers([full, sound])
    with structlog.testing.capture_logs() as logs:
        for step in (1, 2):
            loggers.log(step, {"loss": 1.0})
    assert [log["event"] for log in logs] == ["logger failed"]
    assert "No space left on device" in logs[0]["error"]
    assert [line["step"] for line in objects(tmp_path / "m")] == [1, 2]


@pytest.mark.parametrize(("sync", "synced"), [(False, 1), (True, 3)])
def test_the_disk_is_waited_for_at_the_end_or_for_each_line(
    sync, synced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    file = AppendedFile(tmp_path / "m", sync=sync)
    file.append("a")
    file.append("b")
    file.close()
    assert len(calls) == synced
