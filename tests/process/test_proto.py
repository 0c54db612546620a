"""The protocol's files: fresh stubs, a comment on everything, a baseline that still holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import stubs

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorSet:
    """The compiled protocol, comments included."""
    output = tmp_path_factory.mktemp("described") / "set.binpb"
    sources = sorted(str(path) for path in PROTO.rglob("*.proto"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTO}"]
    options = [f"--descriptor_set_out={output}", "--include_source_info"]
    subprocess.run([*protoc, *options, *sources], check=True, timeout=60)
    return descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())


def test_committed_stubs_are_what_the_pinned_generators_write(tmp_path: Path) -> None:
    stubs.generate(tmp_path)

    assert stubs.differences(stubs.contents(PROTO), stubs.contents(tmp_path)) == []


def test_every_kind_of_stale_stub_is_named() -> None:
    committed = {"a_pb2.py": b"old", "gone_pb2.py": b"x", "same_pb2.py": b"s"}
    fresh = {"a_pb2.py": b"new", "new_pb2.py": b"n", "same_pb2.py": b"s"}

    assert stubs.differences(committed, fresh) == [
        "proto/trainerd/v1/a_pb2.py is stale",
        "proto/trainerd/v1/gone_pb2.py is of no proto file",
        "proto/trainerd/v1/new_pb2.py is missing",
    ]


def uncommented(file: descriptor_pb2.FileDescriptorProto) -> list[str]:
    """Return the paths of what a file defines without a comment above it."""
    commented = {
        tuple(location.path)
        for location in file.source_code_info.location
        if location.leading_comments.strip()
    }
    found = []

    def visit(name: str, path: tuple[int, ...]) -> None:
        if path not in commented:
            found.append(name)

    def visit_enum(enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]) -> None:
        visit(enum.name, path)
        for index, value in enumerate(enum.value):
            visit(f"{enum.name}.{value.name}", (*path, 2, index))

    def visit_message(message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]) -> None:
        visit(message.name, path)
        for index, field in enumerate(message.field):
            visit(f"{message.name}.{field.name}", (*path, 2, index))
        for index, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                visit_message(nested, (*path, 3, index))
        for index, enum in enumerate(message.enum_type):
            visit_enum(enum, (*path, 4, index))

    for index, message in enumerate(file.message_type):
        visit_message(message, (4, index))
    for index, enum in enumerate(file.enum_type):
        visit_enum(enum, (5, index))
    for index, service in enumerate(file.service):
        visit(service.name, (6, index))
        for number, method in enumerate(service.method):
            visit(f"{service.name}.{method.name}", (6, index, 2, number))
    return found


def test_everything_in_the_protocol_has_a_comment(
    described: descriptor_pb2.FileDescriptorSet,
) -> None:
    missing = {file.name: uncommented(file) for file in described.file}

    assert {name: what for name, what in missing.items() if what} == {}


def test_a_missing_comment_is_seen(described: descriptor_pb2.FileDescriptorSet) -> None:
    file = next(file for file in described.file if file.service)
    bare = descriptor_pb2.FileDescriptorProto()
    bare.CopyFrom(file)
    bare.ClearField("source_code_info")

    assert f"{file.service[0].name}.{file.service[0].method[0].name}" in uncommented(bare)


def test_every_rpc_has_messages_of_its_own(described: descriptor_pb2.FileDescriptorSet) -> None:
    methods = [m for file in described.file for s in file.service for m in s.method]

    assert methods
    for method in methods:
        assert method.input_type == f".trainerd.v1.{method.name}Request"
        assert method.output_type == f".trainerd.v1.{method.name}Response"


def test_nothing_of_the_baseline_is_gone_or_renumbered(
    described: descriptor_pb2.FileDescriptorSet,
) -> None:
    baseline = descriptor_pb2.FileDescriptorSet.FromString(
        (ROOT / "ops/proto/baseline.binpb").read_bytes()
    )
    promised = surface(baseline)

    assert len(promised) > 100
    assert promised - surface(described) == set()


def surface(files: descriptor_pb2.FileDescriptorSet) -> set[tuple[str, ...]]:
    """Return our fields with their numbers and types, and our RPCs with their messages."""
    found = set()
    for file in (file for file in files.file if file.package == "trainerd.v1"):
        for message in file.message_type:
            for field in message.field:
                kind = f"{field.label} {field.type} {field.type_name}"
                found.add((message.name, field.name, str(field.number), kind))
        for service in file.service:
            for method in service.method:
                found.add((service.name, method.name, method.input_type, method.output_type))
    return found


def test_the_generators_are_the_floors_of_what_an_install_may_bring() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    directory = PROTO / "trainerd" / "v1"
    grpc_versions = {
        re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", path.read_text()).group(1)
        for path in directory.glob("*_pb2_grpc.py")
    }
    protobuf_versions = {
        re.search(r"Protobuf Python Version: ([\d.]+)", path.read_text()).group(1)
        for path in directory.glob("*_pb2.py")
    }

    assert len(grpc_versions) == len(protobuf_versions) == 1
    grpc, protobuf = grpc_versions.pop(), protobuf_versions.pop()
    for name in ("grpcio", "grpcio-health-checking", "grpcio-reflection", "grpcio-status"):
        assert f'"{name}>={grpc}"' in project
    assert f'"grpcio-tools=={grpc}"' in project
    assert f'"protobuf>={protobuf}"' in project
