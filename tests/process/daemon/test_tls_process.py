"""From `trainerd certs` to a daemon on TCP and `trainerctl` in each role."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.certificates import Authority
from process.daemon.daemon_process import DEADLINE_S, command, configured, daemon_process
from unit.daemon.house import short_directory

RSS_KIB = 60 * 1024


@pytest.fixture
def root() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trainerctl(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if "TRAINERD" not in name}
    return subprocess.run(
        [sys.executable, "-m", "trainerd.clients", *arguments],
        env={**plain, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_role_from_the_command_that_makes_it_to_the_exit_code(root: Path) -> None:
    pki = root / "pki"
    made = subprocess.run(command("certs", str(pki)), timeout=DEADLINE_S, check=True)
    assert made.returncode == 0
    address = f"127.0.0.1:{free_port()}"
    config = configured(root)
    config.write_text(
        config.read_text()
        + f'[api]\nlisten = "{address}"\nca = "pki/ca.crt"\ncert = "pki/daemon.crt"\n'
        'key = "pki/daemon.key"\n'
    )

    def at(role: str) -> list[str]:
        files = ("--tls-cert", str(pki / f"{role}.crt"), "--tls-key", str(pki / f"{role}.key"))
        return ["--address", address, "--tls-ca", str(pki / "ca.crt"), *files]

    with daemon_process(config) as daemon:
        assert f'"api": "{address}"' in daemon.errors.read_text()
        assert trainerctl("list", *at("viewer")).returncode == 0
        stopped = trainerctl("stop", "x", *at("viewer"))
        assert (stopped.returncode, stopped.stdout) == (6, "")
        assert "StopRun needs the role operator" in stopped.stderr
        assert trainerctl("stop", "x", *at("operator")).returncode == 3
        as_host = trainerctl("list", *at("daemon"))
        assert as_host.returncode == 6

        # The files may come from the environment, for TCP alone.
        variables = {
            f"TRAINERD_TLS_{name.upper()}": str(pki / file)
            for name, file in (("ca", "ca.crt"), ("cert", "viewer.crt"), ("key", "viewer.key"))
        }
        told = trainerctl("list", "--address", address, **variables)
        assert told.returncode == 0, told.stderr
        told = trainerctl("list", "--address", f"unix:{root / 'c.sock'}", **variables)
        assert told.returncode == 0, told.stderr

        stranger = Authority()
        stranger.pair("spiffe://trainerd/operator").write(pki, "stranger")
        refused = trainerctl("list", *at("stranger"))
        assert refused.returncode == 6
        assert "certificates of its own authority only" in refused.stderr
        (pki / "other.crt").write_bytes(stranger.cert)
        mistaken = trainerctl("list", *at("viewer"), "--tls-ca", str(pki / "other.crt"))
        assert mistaken.returncode == 6
        assert "is not of the authority in --tls-ca" in mistaken.stderr
        assert daemon.status("VmRSS") < RSS_KIB
        assert daemon.terminate() == 0
    assert "Traceback" not in daemon.errors.read_text()


def test_a_daemon_with_bad_certificates_says_so_and_does_not_start(root: Path) -> None:
    config = configured(root)
    config.write_text(
        config.read_text()
        + '[api]\nlisten = "127.0.0.1:0"\nca = "ca.crt"\ncert = "d.crt"\nkey = "d.key"\n'
    )
    for name in ("serve", "check-config"):
        arguments = [name, "--config", str(config)] if name == "serve" else [name, str(config)]
        ended = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert ended.returncode in (1, 2)
        assert ended.stderr.count("No such file or directory") == 3
        assert "Traceback" not in ended.stderr
