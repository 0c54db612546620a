"""Checks `proto/` with buf: its lint rules, and that nothing breaks against the baseline.

`--baseline` makes the protocol of today the baseline: do that at a release, never to silence a
break. buf itself comes from the path, or, pinned by hash, from npm; it is kept in `build/tools`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASELINE = ROOT / "ops" / "proto" / "baseline.binpb"
VERSION = "1.75.0"
KEPT = ROOT / "build" / "tools" / f"buf-{VERSION}"
DOWNLOAD_TIMEOUT_S = 300.0
SKIPPED = 77
"""Exit status of a check that could not run here."""

# The machine's name, npm's name for it, and the SHA-512 of npm's package.
PACKAGES = {
    "x86_64": (
        "@bufbuild/buf-linux-x64",
        "YGGJAx0lpMCE7aMWjNOJcfoEaG/e+iYHnTC4SZ0P5eS4IffMryA9Z4/bb1m1wNXAEJ8ATFMEZOAk/5x9VE47ig==",
    ),
    "aarch64": (
        "@bufbuild/buf-linux-aarch64",
        "eX+XyokzJDqsNIFo8b1O3DBvbnksOozPJX4QVsNn61JqSUtWspyTNeYqwg8lRDancML+bDqZEDFPABjAsVCQGQ==",
    ),
}


class BufMissing(Exception):
    """buf is not here and cannot be had; the message says why."""


def buf() -> Path:
    """Return the program, downloading it the first time. Raise `BufMissing`."""
    if KEPT.exists():
        return KEPT
    on_path = shutil.which("buf")
    if on_path is not None:
        return Path(on_path)
    npm = shutil.which("npm")
    if npm is None:
        raise BufMissing("buf not found (nor npm to get it): proto lint skipped here, CI runs it")
    if platform.machine() not in PACKAGES:
        raise BufMissing(f"buf not found, and no package of it is known for {platform.machine()}")
    return download(npm, *PACKAGES[platform.machine()])


def download(npm: str, package: str, sha512: str) -> Path:
    """Fetch npm's package, check its hash and keep the program in it."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=KEPT.parent) as scratch:
        packed = subprocess.run(
            [npm, "pack", "--silent", f"{package}@{VERSION}"],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if packed.returncode != 0 or len(archives) != 1:
            said = (packed.stderr or packed.stdout).strip().splitlines() or ["nothing"]
            raise BufMissing(f"npm could not get {package}@{VERSION}; it said: {said[-1]}")
        came = base64.b64encode(hashlib.sha512(archives[0].read_bytes()).digest()).decode()
        if came != sha512:
            raise BufMissing(f"{package}@{VERSION} has SHA-512 {came}, expected {sha512}")
        program = Path(scratch) / "buf"
        with tarfile.open(archives[0]) as archive:
            content = archive.extractfile("package/bin/buf")
            if content is None:
                raise BufMissing(f"{package}@{VERSION} holds no program")
            program.write_bytes(content.read())
        program.chmod(0o755)
        program.replace(KEPT)
    return KEPT


def main(arguments: list[str]) -> int:
    """Lint and compare, or write the baseline."""
    try:
        program = str(buf())
    except (BufMissing, OSError, subprocess.TimeoutExpired) as error:
        print(error)
        return SKIPPED
    if arguments == ["--baseline"]:
        commands = [["build", "proto", "--exclude-source-info", "--output", str(BASELINE)]]
    else:
        commands = [["lint", "proto"], ["breaking", "proto", "--against", str(BASELINE)]]
    environment = os.environ | {"BUF_CACHE_DIR": str(KEPT.parent / "buf-cache")}
    statuses = [
        subprocess.run([program, *command], cwd=ROOT, env=environment, check=False).returncode
        for command in commands
    ]
    return 1 if any(statuses) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
