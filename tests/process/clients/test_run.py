"""run: a private daemon lives as long as the command, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainerd.clients import Unreachable
from trainerd.clients.private_daemon import PrivateDaemon
from unit.clients.ended import Ended
from unit.clients.fake_control import environment

FAKE_DAEMON = Path(__file__).with_name("fake_daemon.py")
# `trainerctl` in a process of its own, so that signals reach it as they reach a user's.
DRIVER = """
import sys
from trainerd.clients.main import main
sys.exit(main(sys.argv[2:], daemon_command=sys.argv[1].split("|")))
"""
NOWHERE = "unix:/nonexistent/trainerd.sock"


@dataclass(frozen=True)
class Played:
    code: int
    out: str
    err: str
    transcript: list[str]
    logs: list[Path]


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as place:
        yield Path(place)


@pytest.fixture
def play(tmp_path: Path, short: Path, run_file: Callable[..., Path]) -> Callable[..., Played]:
    """Runs `trainerctl run` against a scenario of the fake daemon."""

    def run(scenario: str, *options: str, text: str | None = None) -> Played:
        transcript = short / "transcript"
        temporary = tmp_path / "tmp"
        temporary.mkdir()
        command = "|".join([sys.executable, str(FAKE_DAEMON), scenario, str(transcript)])
        file = run_file() if text is None else run_file(text)
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, command, "run", str(file), *options],
            env=environment(TRAINERD_ADDRESS=NOWHERE, TMPDIR=str(temporary)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = transcript.read_text().splitlines() if transcript.exists() else []
        return Played(done.returncode, done.stdout, done.stderr, lines, list(temporary.iterdir()))

    return run


def test_a_private_daemon_is_started_used_and_ended(play: Callable[..., Played]) -> None:
    played = play("completed")
    assert played.code == 0, played.err
    assert "digest      " + "ab" * 32 in played.out
    assert "started a private daemon" in played.err
    assert "http://127.0.0.1:9/metrics" in played.err
    assert played.transcript == [
        f"started address={NOWHERE} session=True",
        "serves",
        "submitted demo",
        "lifeline cut",
        "ended",
    ]
    assert played.logs == [], "the log of a daemon that ended well is of no use"


def test_ctrl_c_saves_stops_and_exits_with_75(play: Callable[..., Played]) -> None:
    played = play("interrupted")
    assert played.code == 75, played.err
    assert "stopping: saving a checkpoint (Ctrl-C again to end at once)" in played.err
    assert "--resume " in played.out
    assert played.transcript[2:] == [
        "submitted demo",
        "stop no_checkpoint=False no_wait=True",
        "lifeline cut",
        "ended",
    ]


def test_sigterm_does_the_same(play: Callable[..., Played]) -> None:
    played = play("terminated")
    assert played.code == 75, played.err
    assert "stop no_checkpoint=False no_wait=True" in played.transcript


def test_a_second_ctrl_c_stops_without_a_checkpoint(play: Callable[..., Played]) -> None:
    played = play("interrupted twice")
    assert played.code == 75, played.err
    assert played.transcript[3:] == [
        "stop no_checkpoint=False no_wait=True",
        "stop no_checkpoint=True no_wait=True",
        "lifeline cut",
        "ended",
    ]


def test_a_third_ctrl_c_waits_for_nothing_but_the_daemon(play: Callable[..., Played]) -> None:
    played = play("interrupted thrice")
    assert played.code == 130, played.err
    assert played.transcript[-2:] == ["lifeline cut", "ended"]


def test_ctrl_c_before_there_is_a_run_ends_the_daemon(play: Callable[..., Played]) -> None:
    played = play("interrupted at submit")
    assert played.code == 130, played.err
    assert played.transcript[-2:] == ["lifeline cut", "ended"]
    assert "Traceback" not in played.err


def test_json_has_nothing_but_messages_on_standard_output(play: Callable[..., Played]) -> None:
    played = play("completed", "--json")
    assert played.code == 0, played.err
    states = [Ended(0, line, "").document["run"]["state"] for line in played.out.splitlines()]
    assert states == ["RUN_STATE_QUEUED", "RUN_STATE_RUNNING", "RUN_STATE_COMPLETED"]


def test_a_daemon_that_dies_at_birth_shows_its_last_words(play: Callable[..., Played]) -> None:
    played = play("dies at birth")
    assert played.code == 5
    assert "did not become ready: it ended with code 3; its log is " in played.err
    assert "    | no such state directory" in played.err
    (log,) = played.logs
    assert str(log) in played.err


def test_a_daemon_that_dies_at_work_shows_its_last_words(play: Callable[..., Played]) -> None:
    played = play("dies at work")
    assert played.code == 5
    assert "lost the private daemon: it ended with code 3" in played.err
    assert "    | the disk is on fire" in played.err
    assert len(played.logs) == 1


def test_a_wrong_run_file_starts_no_daemon(play: Callable[..., Played]) -> None:
    played = play("completed", text="nam = 1")
    assert (played.code, played.transcript) == (2, [])
    assert "did you mean name?" in played.err


def test_no_private_daemon_takes_the_place_of_one_at_another_port(
    play: Callable[..., Played],
) -> None:
    played = play("completed", "--address", "127.0.0.1:1")
    assert (played.code, played.transcript) == (5, [])


def scenario(short: Path, name: str) -> list[str]:
    return [sys.executable, str(FAKE_DAEMON), name, str(short / "transcript")]


def test_a_daemon_that_is_never_ready_is_ended(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Unreachable, match=r"did not become ready within 0\.5 s"):
        PrivateDaemon(scenario(short, "never ready"), None, ready_timeout_s=0.5)
    with pytest.raises(Unreachable, match=r"did not become ready.*but said 'HELLO"):
        PrivateDaemon(scenario(short, "no handshake"), None)
    with pytest.raises(Unreachable, match="cannot start /nonexistent: No such file"):
        PrivateDaemon(["/nonexistent"], None)


def test_a_daemon_that_does_not_end_is_killed(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("trainerd.clients.private_daemon._KILL_TIMEOUT_S", 0.2)
    with PrivateDaemon(scenario(short, "does not end"), None, end_timeout_s=0.2) as daemon:
        assert daemon.lives()
        assert not daemon.killed
    assert daemon.killed
    assert not daemon.lives()
    assert os.path.exists(daemon.log_path)
