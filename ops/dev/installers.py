"""Installs pinned requirements into a virtual environment: with uv where it can, else with pip.

Both use the package index that pip is configured for. uv does not read pip's configuration, so it
is translated; no address is kept anywhere.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INSTALL_TIMEOUT_S = 900.0
"""Bound on one installer run; the whole stack takes 3 s (uv) to 30 s (pip) from a near index."""

# What pip's (urllib3's) messages say when nothing answered, as opposed to "no such package".
_UNREACHABLE = ("connection broken by", "Max retries exceeded", "Network is unreachable")

_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


class EnvironmentFailure(Exception):
    """The environment cannot be made; the message says what is missing and what to do."""


def say(line: str) -> None:
    """Tell the person at the terminal; standard output is left to the target's own command."""
    print(f"environment: {line}", file=sys.stderr, flush=True)


def pip_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for pip: the caller's, less those that would install elsewhere."""
    unwanted = {
        "PIP_CONSTRAINT",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
        "PIP_TARGET",
        "PYTHONHOME",
        "PYTHONPATH",
        "VIRTUAL_ENV",
    }
    kept = {name: value for name, value in inherited.items() if name not in unwanted}
    return kept | {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def uv_environment(pip_config: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Translate `pip config list` into uv's variables; a variable that is set already wins."""
    settings: dict[str, str] = {}
    for scope in ("global", "install", ":env:"):
        for line in pip_config.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{scope}.") and value:
                settings[name.removeprefix(f"{scope}.")] = str(ast.literal_eval(value))
    translated = {
        variable: " ".join(settings[name].split())
        for name, variable in _UV_NAMES.items()
        if settings.get(name)
    }
    if "UV_FIND_LINKS" in translated:
        translated["UV_FIND_LINKS"] = translated["UV_FIND_LINKS"].replace(" ", ",")
    # pip considers all its indexes at once; the hashes rule out a wrong package.
    translated["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    translated["UV_PYTHON_DOWNLOADS"] = "never"
    return translated | dict(pip_environment(inherited))


def output_of(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command; return its exit status and everything that it printed."""
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"{command[0]} was not done within {INSTALL_TIMEOUT_S:.0f} s"
    except OSError as error:
        return 1, str(error)
    return done.returncode, done.stdout


def pip_command(python: Path) -> list[str]:
    """Return the command that runs pip on the environment of `python`, putting pip there if absent.

    Where this Python cannot put it there (Debian without python3-venv), its own pip is used.
    """
    environment = pip_environment(os.environ)
    inside = [str(python), "-m", "pip"]
    if output_of([*inside, "--version"], environment)[0] == 0:
        return inside
    if output_of([str(python), "-m", "ensurepip", "--default-pip"], environment)[0] == 0:
        return inside
    outside = [sys.executable, "-m", "pip", "--python", str(python)]
    if output_of([*outside, "--version"], environment)[0] == 0:
        return outside
    raise EnvironmentFailure(
        f"{sys.executable} has neither ensurepip nor pip; install them "
        "(Debian: apt-get install python3-venv) or name another Python ≥ 3.11: make PYTHON=…"
    )


def install(python: Path, *, installer: Path, requirements: Path, project: Path) -> str:
    """Install `requirements` by hash, then `project` editable; return the name of the tool used.

    `installer` pins uv. An index without uv, or one that uv cannot use, leaves pip to do it.
    """
    pip = pip_command(python)
    environment = pip_environment(os.environ)
    pinned = ["--quiet", "--require-hashes", "-r"]
    status, output = output_of(
        [*pip, "install", "--retries=2", *pinned, str(installer)], environment
    )
    if status != 0 and any(words in output for words in _UNREACHABLE):
        raise EnvironmentFailure(
            f"no package index could be reached ({_unreachable(output)}); "
            "check the network, or name a mirror: PIP_INDEX_URL=… make …"
        )
    editable = ["--quiet", "--no-deps", "--no-build-isolation", "-e", str(project)]
    if status == 0:
        _, config = output_of([*pip, "config", "list"], environment)
        uv_variables = uv_environment(config, os.environ)
        uv = [str(python.parent / "uv"), "pip", "install", "--python", str(python)]
        status, output = output_of([*uv, *pinned, str(requirements)], uv_variables)
        if status == 0:
            status, output = output_of([*uv, *editable], uv_variables)
        if status == 0:
            return "uv"
        say(f"uv could not install ({_last_error(output)}); using pip")
    for arguments in ([*pinned, str(requirements)], editable):
        status, output = output_of([*pip, "install", *arguments], environment)
        if status != 0:
            raise EnvironmentFailure(f"pip could not install the requirements:\n{_tail(output)}")
    return "pip"


def _unreachable(output: str) -> str:
    lines = [line for line in output.splitlines() if any(words in line for words in _UNREACHABLE)]
    said = lines[-1].partition("broken by")[2] or lines[-1]
    return re.sub(r"<[^>]*>: ", "", said).strip()[:200]


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "warning: retrying"))]
    return (errors or lines or ["no output"])[-1]


def _tail(output: str) -> str:
    return "\n".join(output.splitlines()[-8:])
