"""The launcher's configuration: TOML, flags, and every problem at once."""

from __future__ import annotations

import pytest

from trainerd.actors.launcher.config import ConfigError, load
from trainerd.actors.launcher.main import main


def problems_of(text: str, tmp_path, **overrides: object) -> list[str]:
    path = tmp_path / "launcher.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, {key.replace("__", "."): value for key, value in overrides.items()})
    return caught.value.problems


def test_a_file_is_read_into_the_sections(tmp_path):
    path = tmp_path / "launcher.toml"
    path.write_text(
        '[launcher]\nstate_directory = "/s"\nsocket = "/l.sock"\ngrace_s = 5\n'
        '[devices]\nplatform = "cpu"\ncpu_count = 4\n'
    )
    config = load(path, {})
    assert (str(config.state), str(config.socket)) == ("/s", "/l.sock")
    assert config.launcher.grace_s == 5.0
    assert (config.devices.platform, config.devices.cpu_count) == ("cpu", 4)


def test_flags_win_over_the_file(tmp_path):
    path = tmp_path / "launcher.toml"
    path.write_text('[launcher]\nsocket = "/file.sock"\nhost = "file"\n')
    config = load(path, {"launcher.socket": "/flag.sock"})
    assert (str(config.socket), config.launcher.host) == ("/flag.sock", "file")


def test_without_anything_the_users_directories_are_used(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    config = load(None, {})
    assert config.state == tmp_path / "s" / "trainerd-launcher"
    assert config.socket == tmp_path / "r" / "trainerd-launcher" / "launcher.sock"
    assert config.launcher.host


def test_every_unknown_key_and_wrong_type_is_listed(tmp_path):
    found = problems_of(
        '[launcher]\nsockett = "x"\ngrace_s = "long"\n[devices]\ncpu_count = true\n[extra]\n',
        tmp_path,
    )
    assert len(found) == 4
    assert any("launcher.sockett is not a known key" in p and "socket" in p for p in found)
    assert any("launcher.grace_s must be a number, got 'long'" in p for p in found)
    assert any("devices.cpu_count must be an integer, got True" in p for p in found)
    assert any("extra is not a known key" in p for p in found)


def test_every_impossible_value_is_listed(tmp_path):
    found = problems_of(
        f'[launcher]\nsocket = "/{"x" * 120}"\ngrace_s = -1\ncheck_timeout_s = 0\n'
        'orphan_grace_s = inf\n[devices]\nplatform = "gpu"\ncpu_count = 0\nvisible = "one"\n',
        tmp_path,
    )
    assert len(found) == 7
    assert any("at most 107 bytes, got 121" in p for p in found)


def test_visible_devices_of_the_cpu_are_refused(tmp_path):
    found = problems_of('[devices]\nplatform = "cpu"\nvisible = "0"\n', tmp_path)
    assert len(found) == 1
    assert "use devices.cpu_count" in found[0]


@pytest.mark.parametrize("text", ["not toml", "launcher = 3\n"])
def test_a_file_that_is_no_configuration_is_refused(text, tmp_path):
    assert len(problems_of(text, tmp_path)) == 1


def test_the_command_line_prints_each_problem_and_exits_2(tmp_path, capsys):
    path = tmp_path / "launcher.toml"
    path.write_text("[launcher]\nsockett = 1\n[devices]\ncpu_count = 0.5\n")
    assert main(["--config", str(path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("trainerd launcher: ") for line in errors)


def test_a_missing_file_is_one_clear_line(tmp_path, capsys):
    assert main(["--config", str(tmp_path / "none.toml")]) == 2
    assert "none.toml cannot be read: No such file" in capsys.readouterr().err
