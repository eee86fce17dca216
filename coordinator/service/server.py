"""The gRPC server: mutual TLS with the operator's own authority, one bounded pool of threads, limits on size and time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from coordinator.errors import SettingsError
from coordinator.service.answering import handler_of
from coordinator.service.methods import METHODS
from coordinator.service.served import Resources, Served
from coordinator.service.turns import Turns
from protocols.service import MAX_MESSAGE, SERVICE

THREADS = 16
MAX_CALLS = 64  # at once; more are refused with RESOURCE_EXHAUSTED rather than queued
MOST_EACH = 4  # of one institution at once
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", MAX_CALLS),
    ("grpc.so_reuseport", 0),  # a second server on the same port must fail, not share it
    ("grpc.http2.min_ping_interval_without_data_ms", 60_000),
    ("grpc.max_connection_idle_ms", 600_000),
)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers on `port`."""

    server: grpc.Server
    health: health.HealthServicer
    port: int

    def stop(self, grace: float) -> None:
        """Takes no more calls, gives those in progress `grace` seconds, and returns when all have ended."""
        self.health.enter_graceful_shutdown()
        self.server.stop(grace).wait()


def start_server(resources: Resources, address: str, methods: Sequence[Served] = METHODS) -> RunningServer:
    """Listens on `address` (host:port, port 0 for a free one).

    Raises:
        SettingsError: the address cannot be listened on.
    """
    server = grpc.server(ThreadPoolExecutor(THREADS, "registry-service"), options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    turns = Turns(MOST_EACH)
    answers = {served.method.name: handler_of(served, resources, turns) for served in methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, answers),))
    state = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    try:
        port = server.add_secure_port(address, _credentials(resources))
    except RuntimeError:
        raise SettingsError(f"the registry service cannot listen on {address}; free the port, or change service_port") from None
    server.start()
    for name in ("", SERVICE):
        state.set(name, HealthCheckResponse.SERVING)
    return RunningServer(server, state, port)


def _credentials(resources: Resources) -> grpc.ServerCredentials:
    authority = resources.authority
    return grpc.ssl_server_credentials([authority.server_pair()], authority.certificate_pem, require_client_auth=True)
