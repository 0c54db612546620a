"""Resolves the hash-pinned requirements anew, keeping what still fits (`--upgrade`: newest of all).

One set for every Python that pyproject.toml names, with markers and no index address:
`runtime.txt` (what `pip install trainerd` needs), `development.txt` (that and what make uses),
`installer.txt` (uv, which installs them).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import installers

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "ops" / "requirements"
OLDEST_PYTHON = "3.11"


def resolve(sources: list[str], output: str, *options: str) -> int:
    """Resolve `sources` into a file of `OUTPUT`; return uv's exit status."""
    _, config = installers.output_of(
        [sys.executable, "-m", "pip", "config", "list"], installers.pip_environment(os.environ)
    )
    environment = installers.uv_environment(config, os.environ)
    # Only the main index has the wheels of every platform; a local one would leave out hashes.
    environment.pop("UV_INDEX", None)
    environment.pop("UV_FIND_LINKS", None)
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet"]
    form = ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
    bare = ["--no-header", "--no-annotate", "--no-emit-index-url"]
    command = [*uv, *form, *bare, *options, "--output-file", str(OUTPUT / output), *sources]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main(options: list[str]) -> int:
    """Write the three files; stop at the first that cannot be resolved."""
    project = "pyproject.toml"
    with tempfile.NamedTemporaryFile("w", suffix=".in") as uv:
        uv.write("uv\n")
        uv.flush()
        return (
            resolve([uv.name], "installer.txt", *options)
            or resolve([project], "runtime.txt", *options)
            or resolve(
                [project],
                "development.txt",
                "--extra=dev",
                f"--constraint={OUTPUT / 'runtime.txt'}",
                *options,
            )
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
