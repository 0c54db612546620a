"""The owner of a standby that may do anything: a start is always answered, and made once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[2]


def case(name: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fakes.standby_cases", name],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout)


def test_a_standby_forks_one_trainer_after_the_other_and_each_is_reaped_here():
    assert case("forks") == {"results": [[7, "trains\n"]] * 3, "same": True}


def test_only_what_is_started_with_exactly_the_same_is_forked():
    assert case("other_key") == {"others": [None] * 6}


def test_there_is_one_standby_and_it_goes_with_the_run_that_trains():
    assert case("moves_to_another_run") == {"replaced": True, "old": None, "new": [7, "trains\n"]}


def test_a_standby_that_does_not_answer_is_replaced():
    assert case("deaf") == {"answer": None, "log": ""}


def test_what_was_forked_too_late_never_trains():
    assert case("late") == {"answer": None, "log": "not wanted\n"}


def test_a_start_that_is_called_off_leaves_no_answer_to_the_next_one():
    assert case("called_off") == {
        "cancelled": True,
        "log": "not wanted\n",
        "next": [7, "trains\n"],
    }


@pytest.mark.parametrize("odd", ["nonsense", "stranger", "refuses"])
def test_a_standby_that_gives_no_trainer_is_replaced(odd):
    assert case(odd) == {"answer": None, "log": ""}


def test_a_standby_that_grows_is_replaced():
    assert case("grows") == {"answer": [7, "trains\n"], "log": "trains\n"}


def test_a_killed_standby_is_replaced():
    assert case("killed") == {"answer": [7, "trains\n"]}


def test_standbys_that_only_die_are_given_up():
    assert case("dies") == {"preparing": False}


def test_an_unfit_program_is_told_of_once_and_tried_again_when_its_files_change():
    assert case("unfit") == {"told": ["it is odd"], "idle": True, "mended": True}


def test_a_standby_that_takes_too_much_memory_is_not_kept():
    came = case("large")
    assert not came["ready"]
    assert came["told"] == ["its imports take 1048576 MiB, the limit is 512 MiB"]


def test_a_preparation_has_a_deadline():
    assert case("silent") == {"ready": False}


def test_a_standby_without_a_trainer_ends_after_a_while():
    assert case("idles") == {"ready": False, "answer": None}


def test_a_removed_runs_standby_ends():
    assert case("forgotten") == {"kept": True, "answer": None}


def test_who_asks_for_a_standby_before_any_trainer_hears_when_it_waits_or_why_it_does_not():
    lost = "none could be prepared: see standby.log"
    assert case("before_a_trainer") == {
        "fine": "",
        "fine, another run": lost,
        "unfit": "it is odd",
        "unfit, another run": lost,
        "dies": lost,
        "dies, another run": lost,
        "off": "standbys are switched off here",
    }
