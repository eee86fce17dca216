"""From bytes to an answer: the caller is identified, the request read, and whatever goes wrong told without our insides."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from coordinator.errors import NotAuthorised, TooManyCalls
from coordinator.service.callers import caller_of
from coordinator.service.served import Caller, Resources, Served
from coordinator.service.turns import Turns
from protocols.errors import ConsortiumError, MalformedMessage
from protocols.logs import place_of

_log = logging.getLogger("consortium.coordinator")
_ROUNDING = 1.05  # gRPC sends a long deadline in few digits, rounded up


def handler_of(served: Served, resources: Resources, turns: Turns) -> grpc.RpcMethodHandler:
    """The method as gRPC calls it, with bytes on both sides."""

    def once(request: bytes, context: grpc.ServicerContext) -> bytes:
        with _told(context, served):
            caller = _admitted(served, resources, context)
            with turns.turn(caller.name):
                answer: bytes = served.answer(resources, caller, served.method.request.from_bytes(request)).to_bytes()
            return answer

    def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        with _told(context, served):
            caller = _admitted(served, resources, context)
            with turns.turn(caller.name):
                for message in served.answer(resources, caller, served.method.request.from_bytes(request)):
                    _admitted(served, resources, context)  # a revocation ends what has begun
                    yield message.to_bytes()

    return grpc.unary_stream_rpc_method_handler(stream) if served.method.streamed else grpc.unary_unary_rpc_method_handler(once)


def _admitted(served: Served, resources: Resources, context: grpc.ServicerContext) -> Caller:
    left = context.time_remaining()
    if left is None or left > served.method.seconds * _ROUNDING:
        raise MalformedMessage(f"{served.method.name} needs a deadline of at most {served.method.seconds:g} seconds; set one")
    caller = caller_of(resources, context.auth_context())
    if not isinstance(caller, served.callers):
        raise NotAuthorised(f"this certificate does not allow {served.method.name}; join first, and wait to be approved")
    return caller


@contextmanager
def _told(context: grpc.ServicerContext, served: Served) -> Iterator[None]:
    """An error of ours is told by its sentence; of any other, the log alone learns which kind and where."""
    try:
        yield
    except ConsortiumError as error:
        context.abort(_status_of(error), str(error))
    except Exception as error:  # whatever it is, its text may hold what nobody outside should read
        _log.error("%s failed with %s", served.method.name, place_of(error), extra={"event": "call_failed"})
        context.abort(grpc.StatusCode.INTERNAL, "the coordinator could not answer; its log says why")


def _status_of(error: ConsortiumError) -> Any:
    if isinstance(error, NotAuthorised):
        return grpc.StatusCode.PERMISSION_DENIED
    if isinstance(error, TooManyCalls):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.StatusCode.INVALID_ARGUMENT if isinstance(error, MalformedMessage) else grpc.StatusCode.FAILED_PRECONDITION
