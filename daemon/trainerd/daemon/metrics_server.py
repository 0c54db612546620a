"""The HTTP server of /metrics."""

from __future__ import annotations

import asyncio
import contextlib

import prometheus_client

from trainerd.daemon.config import Config


def serve_metrics(
    config: Config,
    registry: prometheus_client.CollectorRegistry,
    stack: contextlib.AsyncExitStack,
) -> str:
    """Start it in its own thread; return its address. Raise `OSError`."""
    if not config.metrics.address:
        return ""
    host, _, port = config.metrics.address.rpartition(":")
    try:
        server, thread = prometheus_client.start_http_server(
            int(port), addr=host.strip("[]"), registry=registry
        )
    except OSError as error:
        raise OSError(
            f"metrics.address {config.metrics.address}: {error.strerror}; "
            f'choose another port, 0 for any free one, or "" for none'
        ) from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    stack.push_async_callback(asyncio.to_thread, end)
    return f"{host}:{server.server_port}"
