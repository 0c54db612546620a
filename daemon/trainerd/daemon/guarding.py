"""What surrounds every call of a server: layers, outermost first, the handler within.

A layer is an asynchronous context manager over one call: it may refuse it on the way in, and sees
how it ended on the way out. All four kinds of RPC are surrounded. A request that is no message of
its type, or too long a one, never reaches a handler: it is refused by the innermost layer, behind
whoever may not call at all.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from trainerd.daemon.refusals import refuse
from trainerd.daemon.roles import Peer

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a request that cannot be taken, and says why."""

    code: grpc.StatusCode
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `method` is its path; `request` None: the client streams. `streams`: it is
    answered by a stream. `address`: where it comes from, as gRPC has it. A call that its client has
    left may be gone when its handler ends, and gRPC must not be asked for that then."""

    method: str
    request: Message | Unreadable | None
    context: Context
    peer: Peer
    address: str
    streams: bool

    @property
    def service(self) -> str:
        """Such as trainerd.v1.ControlService."""
        return self.method.rpartition("/")[0].removeprefix("/")

    @property
    def name(self) -> str:
        """Such as GetRun."""
        return self.method.rpartition("/")[2]


Layer = Callable[[Call], AbstractAsyncContextManager[None]]


class Guard(grpc.aio.ServerInterceptor):
    """Surrounds every call with the layers.

    `request_bytes`: the longest request that is taken. `outgoing` sees each response of a method
    before it is sent, and may change it.
    """

    def __init__(
        self,
        peer: Callable[[Context], Peer],
        layers: Sequence[Layer],
        *,
        request_bytes: int,
        outgoing: Callable[[str, object], None] = lambda _method, _response: None,
    ) -> None:
        self._outgoing = outgoing
        self._peer = peer
        self._layers = tuple(layers)
        self._request_bytes = request_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """The handler within the layers; a method that is not served stays unimplemented."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        # Generated code always brings both; without them messages are bytes.
        decode = self._decoder(handler.request_deserializer or bytes)
        encode = self._encoder(method, handler.response_serializer or bytes)
        if handler.unary_unary is not None:
            unary = self._unary(method, handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(unary, decode, encode)
        if handler.unary_stream is not None:
            stream = self._stream(method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
        if handler.stream_unary is not None:
            taking = self._unary(method, handler.stream_unary, streamed=True)
            return grpc.stream_unary_rpc_method_handler(taking, decode, encode)
        both = self._stream(method, handler.stream_stream, streamed=True)
        return grpc.stream_stream_rpc_method_handler(both, decode, encode)

    def _decoder(self, decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """A decoder that does not raise: gRPC would log that with its stack, as a defect."""

        def decoded(data: bytes) -> Any:  # noqa: ANN401 - a message, or what stands for it
            if len(data) > self._request_bytes:
                return Unreadable(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "REQUEST_TOO_LARGE",
                    f"a request may have at most {self._request_bytes} bytes, got {len(data)}",
                )
            try:
                return decode(data)
            except DecodeError:
                return Unreadable(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "MALFORMED_REQUEST",
                    "the request is not a message of the type that this RPC takes",
                )

        return decoded

    def _encoder(self, method: str, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        def encoded(response: Any) -> bytes:  # noqa: ANN401 - a message
            self._outgoing(method, response)
            return encode(response)

        return encoded

    @contextlib.asynccontextmanager
    async def _within(self, call: Call) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for layer in self._layers:
                await stack.enter_async_context(layer(call))
            if isinstance(call.request, Unreadable):
                await refuse_unreadable(call.context, call.request)
            yield

    def _call(self, method: str, request: object, context: Context, *, streams: bool) -> Call:
        whole = request if isinstance(request, Message | Unreadable) else None
        return Call(
            method=method,
            request=whole,
            context=context,
            peer=self._peer(context),
            address=context.peer(),
            streams=streams,
        )

    def _unary(self, method: str, inner: Any, *, streamed: bool = False) -> Any:  # noqa: ANN401 - gRPC's handler types
        async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401
            if streamed:
                request = _readable(request, context)
            async with self._within(self._call(method, request, context, streams=False)):
                return await inner(request, context)

        return answer

    def _stream(self, method: str, inner: Any, *, streamed: bool = False) -> Any:  # noqa: ANN401
        async def written(request: Any, context: Context) -> None:  # noqa: ANN401
            if streamed:
                request = _readable(request, context)
            async with self._within(self._call(method, request, context, streams=True)):
                await inner(request, context)

        async def yielded(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
            if streamed:
                request = _readable(request, context)
            async with self._within(self._call(method, request, context, streams=True)):
                async for response in inner(request, context):
                    yield response

        return yielded if inspect.isasyncgenfunction(inner) else written


async def refuse_unreadable(context: Context, found: Unreadable) -> None:
    """End a call whose request cannot be taken."""
    await refuse(context, found.code, found.reason, found.message)


async def _readable(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, Unreadable):
            await refuse_unreadable(context, request)
        yield request
