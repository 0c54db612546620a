"""Writes the Python stubs of `proto/`, or says which committed ones are stale (`--check`).

Messages come from protoc, services from grpcio-tools, the types of services from mypy-protobuf.
All three are pinned: generated code refuses a runtime older than its generator.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
PACKAGE = Path("trainerd") / "v1"
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(output: Path) -> None:
    """Write the stubs of every proto file below `output`. Raise `CalledProcessError`."""
    plugin = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
    sources = sorted(str(path) for path in (PROTO / PACKAGE).glob("*.proto"))
    options = [
        f"--proto_path={PROTO}",
        f"--python_out={output}",
        f"--pyi_out={output}",
        f"--grpc_python_out={output}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--mypy_grpc_out=quiet:{output}",
    ]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *sources], check=True)


def contents(tree: Path) -> dict[str, bytes]:
    """Map the names of the stubs in a tree to what they hold."""
    directory = tree / PACKAGE
    return {path.name: path.read_bytes() for p in PATTERNS for path in directory.glob(p)}


def differences(committed: dict[str, bytes], fresh: dict[str, bytes]) -> list[str]:
    """Say what is wrong with the committed stubs, a line for each file."""
    return [
        f"proto/{PACKAGE / name} is "
        + ("missing" if name not in committed else "stale" if name in fresh else "of no proto file")
        for name in sorted(committed | fresh)
        if committed.get(name) != fresh.get(name)
    ]


def main(arguments: list[str]) -> int:
    """Write the stubs in place, or compare with `--check`."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = contents(Path(scratch))
    committed = contents(PROTO)
    wrong = differences(committed, fresh)
    if arguments == ["--check"]:
        for line in wrong:
            print(f"{line}: run make proto and commit what it writes")
        return 1 if wrong else 0
    for name in committed.keys() - fresh.keys():
        (PROTO / PACKAGE / name).unlink()
    for name, content in fresh.items():
        (PROTO / PACKAGE / name).write_bytes(content)
    print("\n".join(wrong) if wrong else "the stubs were fresh")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
