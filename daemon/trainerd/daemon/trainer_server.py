"""The server on the socket for this host's trainers."""

from __future__ import annotations

import grpc

from trainerd.daemon.api_server import listen
from trainerd.daemon.calls import defects
from trainerd.daemon.guarding import Guard
from trainerd.daemon.roles import Peer
from trainerd.v1 import trainer_pb2_grpc
from trainerd.v1.protocol import MAX_MESSAGE_BYTES, SERVER_OPTIONS

TRAINER_STREAMS = 64
"""Streams at once on the attach socket; a host has one trainer, and the stream it replaces."""
_TRAINER = Peer(identity="trainer", roles=frozenset(), transport="unix")


async def serve_trainers(
    address: str, servicer: trainer_pb2_grpc.TrainerServiceServicer, *, group: str = ""
) -> grpc.aio.Server:
    """Serve `TrainerService` at this Unix socket, for its owner and `group`. Raise `OSError`."""
    # A trainer runs the user's code: what it sends is not trusted to be a message.
    guard = Guard(lambda _: _TRAINER, (defects,), request_bytes=MAX_MESSAGE_BYTES)
    server = grpc.aio.server(
        interceptors=[guard], options=SERVER_OPTIONS, maximum_concurrent_rpcs=TRAINER_STREAMS
    )
    trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
    listen(server, address, group=group)
    await server.start()
    return server
