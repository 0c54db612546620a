"""What only the launcher knows of an assignment."""

from __future__ import annotations

import os

from trainerd.actors.launcher.config import LauncherConfig
from trainerd.actors.launcher.runs import RunFiles, checkpoint_places
from trainerd.actors.launcher.snapshot_places import SnapshotPlaces
from trainerd.v1 import launcher_pb2


def completed(
    assignment: launcher_pb2.Assignment,
    files: RunFiles,
    config: LauncherConfig,
    snapshots: SnapshotPlaces | None,
) -> launcher_pb2.Assignment:
    """A copy with directories, this process's id and this host's address filled in."""
    section = config.launcher
    told = launcher_pb2.Assignment()
    told.CopyFrom(assignment)
    places = checkpoint_places(files, assignment.run, assignment.spec.checkpoint)
    told.run_directory = str(files.root)
    told.checkpoint_directory = str(places.directory)
    known = set(assignment.restore_directories)
    told.restore_directories.extend(
        str(place) for place in places.fallbacks if str(place) not in known
    )
    told.launcher_pid = os.getpid()
    told.orphan_grace_s = assignment.orphan_grace_s or section.orphan_grace_s
    told.host = assignment.host or section.host
    if told.HasField("gang"):
        told.gang.own_address = section.advertise
    told.executable_directory = str(config.state / "cache" / "executables")
    if snapshots is not None:
        snapshots.assign(told, section.snapshot_share)
    return told
