"""The daemon's configuration: every problem at once, with its key path."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainerd.daemon.config import Config, ConfigError, load
from trainerd.daemon.serve import for_address


def problems(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def test_a_file_sets_what_it_names_and_paths_are_its_own_folders(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        """
        [daemon]
        state_directory = "state"
        control_socket = "/abs/c.sock"
        [launcher]
        start = false
        [metrics]
        address = "127.0.0.1:0"
        [log]
        level = "debug"
        """
    )
    config = load(path)

    assert config.daemon.state_directory == tmp_path / "state"
    assert config.daemon.control_socket == Path("/abs/c.sock")
    assert config.launcher.start is False
    assert config.metrics.address == "127.0.0.1:0"
    assert (config.log.level, config.log.format) == ("debug", "auto")
    assert config.daemon.attach_socket == Config().daemon.attach_socket


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path / "c.toml",
        f"""
        [daemon]
        control_sockt = "c"
        attach_socket = 7
        control_socket = "/{"x" * 120}"
        [metrics]
        address = "9469"
        [log]
        format = "xml"
        level = "loud"
        [clients]
        """,
    )

    assert len(told) == 7
    assert "unknown key daemon.control_sockt; known: attach_group, attach_socket" in told[0]
    assert told[1] == "daemon.attach_socket must be a str, got int 7"
    assert told[2].startswith("unknown section [clients]; known: api, audit, daemon, injection")
    assert told[3] == "daemon.control_socket must have at most 107 bytes, got 121"
    assert told[4] == 'metrics.address must be "host:port" or "", got "9469"'
    assert told[5] == 'log.format must be "auto", "json" or "pretty", got "xml"'
    assert told[6] == 'log.level must be one of debug, info, warning, error, got "loud"'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[daemon", "not valid TOML"),
        ("daemon = 3", "daemon must be a table, got int 3"),
        ("[launcher]\nstart = 1", "launcher.start must be a bool, got int 1"),
        ('[metrics]\naddress = "h:99999"', 'metrics.address must be "host:port"'),
        ('[daemon]\ncontrol_socket = "a"\nattach_socket = "a"', "three different sockets"),
    ],
)
def test_a_single_problem(tmp_path: Path, text: str, problem: str) -> None:
    (told,) = problems(tmp_path / "c.toml", text)

    assert problem in told


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(tmp_path / "c.toml")


def test_an_address_on_the_command_line_is_checked_as_well() -> None:
    assert for_address(Config(), "unix:/x/y").daemon.control_socket == Path("/x/y")
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        for_address(Config(), "unix:/" + "x" * 120)
