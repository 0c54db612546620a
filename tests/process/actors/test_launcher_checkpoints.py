"""Checkpoints through the launcher: listed by it, verified and exported by processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from fakes.launcher_process import LauncherProcess, launcher
from fakes.stored_checkpoints import stored
from fakes.trainer_scripts import SLEEPER
from trainerd.v1 import checkpoint_pb2, launcher_pb2

DEADLINE_S = 60.0


@contextmanager
def refused(code: grpc.StatusCode, reason: str, message: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code, caught.value.details()
    assert message in caught.value.details()
    trailing = dict(caught.value.trailing_metadata())
    assert reason.encode() in trailing["grpc-status-details-bin"]


def read(
    host: LauncherProcess, directory: Path, *, verify: bool = False
) -> list[checkpoint_pb2.StoredCheckpoint]:
    request = launcher_pb2.ReadCheckpointsRequest(run="r-1", verify=verify)
    request.checkpoint.directory = str(directory)
    return list(host.stub.ReadCheckpoints(request, timeout=DEADLINE_S).checkpoints)


def export(
    host: LauncherProcess, source: Path, target: Path | str, step: int | None = None
) -> launcher_pb2.ExportParametersResponse:
    request = launcher_pb2.ExportParametersRequest(run="r-1", directory=str(target), step=step)
    request.spec.checkpoint.directory = str(source)
    return host.stub.ExportParameters(request, timeout=DEADLINE_S)


def test_checkpoints_are_listed_and_verified_in_a_process_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "r-1"
    stored(place, 5)
    (stored(place, 7) / "state" / "d" / "data").write_text("something else")
    with launcher(SLEEPER) as host:
        assert [each.state for each in read(host, tmp_path)] == [1, 1]
        bad, good = read(host, tmp_path, verify=True)
        assert (good.step, good.verified) == (5, True)
        assert good.state == checkpoint_pb2.CHECKPOINT_STATE_DURABLE
        assert (bad.step, bad.reason) == (7, "digest_mismatch")
        assert Path(bad.path) == place / "7.damaged"
        # Nothing is known of a run that has saved nothing.
        assert read(host, tmp_path / "elsewhere", verify=True) == []


def test_an_export_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    stored(tmp_path / "r-1", 5)
    stored(tmp_path / "r-1", 7, durable=False)
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "file").touch()
    with launcher(SLEEPER) as host:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "absolute path"):
            export(host, tmp_path, "relative")
        with refused(grpc.StatusCode.ALREADY_EXISTS, "EXPORT_EXISTS", "name another one"):
            export(host, tmp_path, occupied)
        with refused(
            grpc.StatusCode.NOT_FOUND,
            "NO_CHECKPOINT",
            "no durable checkpoint of step 7 on this host; there is one of step 5",
        ):
            export(host, tmp_path, tmp_path / "out", step=7)
        with refused(grpc.StatusCode.NOT_FOUND, "NO_CHECKPOINT", "has no durable checkpoint"):
            export(host, tmp_path / "none", tmp_path / "out")


def test_the_parameters_of_the_newest_durable_checkpoint_are_exported(tmp_path: Path) -> None:
    """By a process that imports jax, which the launcher does not."""
    import jax.numpy as jnp
    import numpy as np
    import orbax.checkpoint as ocp

    from trainerd.actors import checkpoint_manifest

    state = {"params": {"w": jnp.arange(6.0).reshape(2, 3)}, "opt_state": {"m": jnp.ones(4)}}
    path = tmp_path / "r-1" / "5"
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        args = {"state": ocp.args.StandardSave(state), "meta": ocp.args.JsonSave({})}
        writer.save(path, args=ocp.args.Composite(**args))
    checkpoint_manifest.write(path)
    target = tmp_path / "out"
    with launcher(SLEEPER) as host:
        told = export(host, tmp_path, target)
        assert (told.step, told.path, told.directory) == (5, str(path), str(target))
        assert (told.arrays, told.parameters) == (1, 6)
        with refused(grpc.StatusCode.INTERNAL, "CHECKPOINTS_UNREADABLE", "cannot be trusted"):
            (path / "state" / "_sharding").write_text("{}")
            export(host, tmp_path, tmp_path / "again")
    with ocp.StandardCheckpointer() as reader:
        loaded = reader.restore(target)
    np.testing.assert_array_equal(loaded["w"], state["params"]["w"])
    assert list(loaded) == ["w"]
    assert not (tmp_path / "again").exists()
