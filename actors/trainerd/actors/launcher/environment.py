"""The environment of a user's process: built, not inherited."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from trainerd.actors.launcher.devices import OWNED_VARIABLES
from trainerd.v1 import control_pb2
from trainerd.v1 import variables as v1_variables

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """The account a process runs as."""

    name: str
    home: str

    @classmethod
    def current(cls) -> User:
        """This process's account; a uid without an entry is named by its number."""
        try:
            entry = pwd.getpwuid(os.getuid())
        except KeyError:
            return cls(name=str(os.getuid()), home="/")
        return cls(name=entry.pw_name, home=entry.pw_dir)


def environment_problems(variables: Mapping[str, str]) -> list[control_pb2.Problem]:
    """What is wrong with a run's `[trainer] env`."""
    problems = []
    for name in sorted(variables):
        field = f"trainer.env.{name}"
        if not name or "=" in name or "\0" in name or "\0" in variables[name]:
            problems.append(
                control_pb2.Problem(
                    field=field,
                    message=f"{name!r} is not a name of an environment variable, or its value "
                    f"holds a NUL",
                    suggestion="rename or remove it",
                )
            )
        elif why := v1_variables.refusal(name, variables[name]):
            problems.append(
                control_pb2.Problem(
                    field=field,
                    message=f"{name} {why}",
                    suggestion="use trainer.path for modules and trainer.python for the "
                    "interpreter",
                )
            )
        elif name in OWNED_VARIABLES:
            problems.append(
                control_pb2.Problem(
                    field=field,
                    message=f"{name} must not be set: the launcher binds trainers to the devices",
                    suggestion="set [devices] in the launcher's configuration",
                )
            )
    total = sum(len(os.fsencode(name)) + len(os.fsencode(variables[name])) for name in variables)
    if total > v1_variables.MOST_BYTES:
        problems.append(
            control_pb2.Problem(
                field="trainer.env",
                message=f"has {total} bytes, at most {v1_variables.MOST_BYTES} are possible",
                suggestion="put what is large into a file",
            )
        )
    return problems


def build_environment(
    *, python: str, user: User, devices: Mapping[str, str], extra: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of a trainer or a checker.

    `devices` are the variables that bind it to devices and win; its XLA_FLAGS are appended to
    those of `extra`, the run's own variables. Nothing comes from the launcher's environment.
    """
    environment = {
        "PATH": f"{os.path.dirname(python)}:{SYSTEM_PATH}",
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "LANG": "C.UTF-8",
        **extra,
        **devices,
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        # Neither the user's site directory nor the working directory decides what is imported.
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
    }
    flags = (extra.get("XLA_FLAGS", ""), devices.get("XLA_FLAGS", ""))
    if any(flags):
        environment["XLA_FLAGS"] = " ".join(flag for flag in flags if flag)
    return environment
