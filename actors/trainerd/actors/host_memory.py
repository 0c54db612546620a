"""How much more memory this process may use, as the kernel tells it."""

from __future__ import annotations

from pathlib import Path

_MEMORY = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available_bytes(
    *, memory: Path = _MEMORY, own_group: Path = _OWN_GROUP, groups: Path = _GROUPS
) -> int:
    """Bytes that can be had without swapping, within the limits of every enclosing control group.

    Page cache that can be dropped counts as available on the host; within a control group only
    what its limit leaves unused does. 0 where the kernel does not tell.
    """
    found = [_of_host(memory)]
    for group in _enclosing(own_group, groups):
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is not None and used is not None:
            found.append(max(0, limit - used))
    return min(found)


def _of_host(memory: Path) -> int:
    try:
        text = memory.read_text(encoding="ascii")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return 0


def _enclosing(own_group: Path, groups: Path) -> list[Path]:
    """This process's control group and all that it lies in (version 2; none otherwise)."""
    try:
        lines = own_group.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    names = [line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")]
    if not names:
        return []
    own = groups / names[0]
    return [own, *(parent for parent in own.parents if parent.is_relative_to(groups))]


def _number(path: Path) -> int | None:
    """A limit or a use in bytes; None: there is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
