"""Where an installation has its files, below a root that is `/` but for packagers and tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
"""The tree that is installed from."""

UNITS = ("trainerd.target", "trainerd.service", "trainerd-launcher.service")
CONFIGURATIONS = ("trainerd.toml", "launcher.toml")
COMMANDS = ("trainerd", "trainerctl")
"""Commands that everybody finds on the path."""

STATE = ("var/lib/trainerd", "var/lib/trainerd-launcher")
RUNTIME = ("run/trainerd", "run/trainerd-link", "run/trainerd-launcher")
USERS = ("trainerd", "trainerd-launcher")
GROUPS = ("trainerd", "trainerd-daemon", "trainerd-launcher")


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one installation."""

    root: Path

    @property
    def staged(self) -> bool:
        """Whether this is not the running system."""
        return self.root != Path("/")

    @property
    def program(self) -> Path:
        """Everything that is not configuration, state or a file of the system's own."""
        return self.root / "opt/trainerd"

    @property
    def versions(self) -> Path:
        """A virtual environment each."""
        return self.program / "versions"

    @property
    def current(self) -> Path:
        """A link to the version that starts next."""
        return self.program / "current"

    @property
    def documents(self) -> Path:
        """What the operator reads."""
        return self.program / "doc"

    @property
    def configuration(self) -> Path:
        """What the operator writes."""
        return self.root / "etc/trainerd"

    def system_files(self) -> dict[Path, Path]:
        """Units, users and directories: each file and what it is a copy of."""
        library, shipped = self.root / "usr/local/lib", SOURCE / "ops/systemd"
        return {
            **{library / "systemd/system" / name: shipped / name for name in UNITS},
            library / "sysusers.d/trainerd.conf": shipped / "trainerd.sysusers",
            library / "tmpfiles.d/trainerd.conf": shipped / "trainerd.tmpfiles",
        }

    def commands(self) -> dict[Path, str]:
        """The links on the path and where they lead."""
        directory = self.root / "usr/local/bin"
        return {directory / name: f"/opt/trainerd/current/bin/{name}" for name in COMMANDS}

    def seen(self, path: Path) -> Path:
        """The path as it is on the system that is installed."""
        return Path("/") / path.relative_to(self.root)
