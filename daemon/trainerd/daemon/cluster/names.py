"""Under which name a certificate lets a host join."""

from __future__ import annotations

from typing import Any

import grpc

from trainerd.daemon.api_config import RolesConfig
from trainerd.daemon.roles import Roles

_Context = grpc.aio.ServicerContext[Any, Any]


def host_name(roles: RolesConfig, context: _Context) -> str | None:
    """The name in the caller's identity; None: it says none, and the host may say one.

    An identity below one of `roles.host` that ends with `/*`, as `spiffe://trainerd/host/NAME` is,
    names the host, and so does `dns:NAME`. Whoever may open the Unix socket may be any host.
    """
    identity = Roles(roles).peer(context).identity
    for allowed in roles.host:
        if allowed.endswith("/*") and identity.startswith(allowed[:-1]):
            return identity[len(allowed) - 1 :]
    return identity.removeprefix("dns:") if identity.startswith("dns:") else None
