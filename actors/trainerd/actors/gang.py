"""Joining the processes that train as one, before JAX opens its devices.

The coordination service is a process of its own (`trainerd.actors.coordinator`), so that no member
is special and none is aborted because another died. JAX's own `initialize` would make the first
member keep it; what it does beside that is done here.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax._src import distributed, xla_bridge
from jax._src.lib import _jax

from trainerd.actors.errors import PeerLostError
from trainerd.actors.gang_meeting import KeyValueMeeting, Meeting

HEARTBEAT_TIMEOUT_S = 100
"""Seconds without the coordination service after which JAX ends this process."""
COLLECTIVE_TIMEOUT_S = 60.0
"""How long a collective waits where nobody has said."""
OWN_TIMEOUT_S = 600.0
"""How long processes that somebody else has brought together wait for each other."""
_ABORT_MARGIN_S = 60.0
"""JAX ends a process that it cannot connect in time; by then this one has long said what is wrong.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Member `process_id` of `process_count`, who meet at `coordinator_address`, host:port.

    A collective that waits for another member for `collective_timeout_s` fails; before the first
    step members wait for each other for `barrier_timeout_s`. `own_address` is this host as the
    others reach it; empty: what its own name stands for.
    """

    coordinator_address: str
    process_id: int
    process_count: int
    collective_timeout_s: float
    barrier_timeout_s: float
    own_address: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.process_id < self.process_count:
            raise ValueError(
                f"process_id must be 0 to {self.process_count - 1}, got {self.process_id}"
            )
        for name in ("collective_timeout_s", "barrier_timeout_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be > 0 and finite, got {value}")


class Joining:
    """Joins in a thread of its own. Begin it as early as possible: all members wait for the last.

    Nothing may have asked JAX for a device before; whoever wants one asks here.
    """

    def __init__(self, gang: Gang) -> None:
        self.gang = gang
        self._client: _jax.DistributedRuntimeClient | None = None
        self._devices: Sequence[jax.Device] = ()
        self._error: Exception | None = None
        self._until_s = time.monotonic() + gang.barrier_timeout_s
        _prepare(gang)
        self._thread = threading.Thread(target=self._join, name="gang-join", daemon=True)
        self._thread.start()

    def meeting(self) -> Meeting:
        """Where the members speak with each other. Raises what joining raised."""
        self._wait()
        assert self._client is not None
        return _meeting(self._client, self.gang.process_id, self.gang.process_count)

    def devices(self) -> Sequence[jax.Device]:
        """All members' devices, in the members' order. Raises what joining raised."""
        self._wait()
        return self._devices

    def _wait(self) -> None:
        gang = self.gang
        self._thread.join(max(0.0, self._until_s - time.monotonic()))
        if self._thread.is_alive():
            raise PeerLostError(
                f"not all of {gang.process_count} processes met at {gang.coordinator_address} "
                f"within {gang.barrier_timeout_s:g} s",
                suggestion="see that launcher.advertise of every host is reached by the others",
            )
        if self._error is not None:
            raise self._error

    def _join(self) -> None:
        try:
            self._client = _connected(self.gang)
            self._devices = jax.devices()
        except Exception as error:
            self._error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All devices, and where their processes meet; None: this process is alone."""

    devices: Sequence[jax.Device]
    meeting: Meeting | None = None
    timeout_s: float = 0.0


def gather(joining: Joining | None, devices: Sequence[jax.Device] | None = None) -> Gathered:
    """Wait for the others; `devices`: all there are, by default.

    Without `joining` the processes are those that JAX knows of already.
    """
    if joining is not None:
        return Gathered(
            devices=devices or joining.devices(),
            meeting=joining.meeting(),
            timeout_s=joining.gang.barrier_timeout_s,
        )
    devices = devices or jax.devices()
    client = distributed.global_state.client
    here = jax.process_index()
    if client is None or all(device.process_index == here for device in devices):
        return Gathered(devices=devices)
    return Gathered(
        devices=devices,
        meeting=_meeting(client, here, jax.process_count()),
        timeout_s=OWN_TIMEOUT_S,
    )


def _meeting(client: _jax.DistributedRuntimeClient, process_id: int, process_count: int) -> Meeting:
    return KeyValueMeeting(
        client, process_id=process_id, process_count=process_count, topic=f"run/{next(_runs)}"
    )


_runs = itertools.count()
"""Runs that this process has trained in one gang: all its processes count the same."""


def _prepare(gang: Gang) -> None:
    """What JAX reads as it opens its devices."""
    if xla_bridge.backends_are_initialized():
        raise jax.errors.JaxRuntimeError(
            "INTERNAL: JAX has opened its devices before this process joined its gang"
        )
    limit_s = max(1, math.ceil(gang.collective_timeout_s))
    flags = os.environ.get("XLA_FLAGS", "")
    # Of a flag that is given twice the last one counts.
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_collective_timeout_seconds={limit_s}".strip()
    minutes = max(1, math.ceil(gang.barrier_timeout_s / 60))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_cpu_get_local_topology_timeout_minutes", minutes)
    jax.config.update("jax_cpu_get_global_topology_timeout_minutes", minutes)


def _connected(gang: Gang) -> _jax.DistributedRuntimeClient:
    """Meet all others."""
    client = _jax.get_distributed_runtime_client(
        gang.coordinator_address,
        gang.process_id,
        init_timeout=math.ceil(gang.barrier_timeout_s + _ABORT_MARGIN_S),
        heartbeat_timeout=HEARTBEAT_TIMEOUT_S,
        # The end of a process must not wait for the others'.
        shutdown_on_destruction=False,
        use_compression=True,
    )
    client.connect()
    state = distributed.global_state
    state.client = client
    state.process_id, state.num_processes = gang.process_id, gang.process_count
    state.coordinator_address = gang.coordinator_address
    if gang.own_address:
        _reached_at(client, gang.own_address)
    return client


def _reached_at(client: _jax.DistributedRuntimeClient, address: str) -> None:
    """Let Gloo tell the others this address: a host's own name may stand for its loopback."""
    collectives = _jax.make_gloo_tcp_collectives(distributed_client=client, hostname=address)
    xla_bridge.register_backend_factory(
        "cpu",
        lambda: xla_bridge.make_cpu_client(collectives=collectives),
        priority=0,
        fail_quietly=False,
    )
