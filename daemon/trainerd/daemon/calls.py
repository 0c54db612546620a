"""Measures every call of the control service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from prometheus_client import Histogram

_Context = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallTimes(grpc.aio.ServerInterceptor):
    """Observes the duration of each call by method and status code."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap unary calls and response streams; health and reflection are left alone."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.rpartition("/")
        if handler is None or service != "/trainerd.v1.ControlService":
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler

    def _unary(self, method: str, inner: Any) -> Any:  # noqa: ANN401 - gRPC's handler types
        async def call(request: Any, context: _Context) -> Any:  # noqa: ANN401
            began = time.monotonic()
            failed = ""
            try:
                return await inner(request, context)
            except BaseException as error:
                failed = _code_of(error)
                raise
            finally:
                self._observe(method, context, began, failed)

        return call

    def _stream(self, method: str, inner: Any) -> Any:  # noqa: ANN401
        async def call(request: Any, context: _Context) -> AsyncIterator[Any]:  # noqa: ANN401
            began = time.monotonic()
            failed = ""
            try:
                async for response in inner(request, context):
                    yield response
            except BaseException as error:
                failed = _code_of(error)
                raise
            finally:
                self._observe(method, context, began, failed)

        return call

    def _observe(self, method: str, context: _Context, began: float, failed: str) -> None:
        code = context.code()
        refused = isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK
        name = code.name if refused else failed or "OK"
        self._histogram.labels(method, name).observe(time.monotonic() - began)


def _code_of(error: BaseException) -> str:
    """What a client sees of a handler that raised: a call that it left, or a defect of ours."""
    left = isinstance(error, asyncio.CancelledError | GeneratorExit)
    return (grpc.StatusCode.CANCELLED if left else grpc.StatusCode.UNKNOWN).name
