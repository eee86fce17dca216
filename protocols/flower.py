"""Flower's private HTTP clients, as both sides use them: retries that end, heartbeats that never signal, and errors of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import httpx
from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest
from flwr.supercore.constant import OBJECT_PUSH_SESSION_TTL_SECONDS
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient

from protocols.errors import FlowerAway, FlowerRefused
from protocols.proxies import without_proxy

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
# 500 is what a locked SQLite file becomes; the others stand for a process that is not there yet.
_TRANSIENT = frozenset({500, 502, 503, 504})
_LONGEST_PAUSE_SECONDS = 5
FIRST_PAUSE_SECONDS = 0.1


def environment(base: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`base` for a Flower process that tells nobody, asks nobody for updates, and keeps its own files in `folder`."""
    own = {"FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    # Its threads copy objects of 5 MB: by default glibc keeps what they free, an arena a thread.
    memory = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    return {**memory, **base, **own, "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", **without_proxy(base)}


def patient(seconds: float) -> RetryInvoker:
    """Retries for `seconds` while the other process is away. Flower's own retries for ever, and sends us SIGINT on HTTP 401."""
    return RetryInvoker(
        lambda: exponential(0.25, 2, _LONGEST_PAUSE_SECONDS),
        (httpx.TransportError, httpx.HTTPStatusError),
        None,
        seconds,
        should_giveup=_final,
    )


def look_again_soon(module: ModuleType) -> None:
    """Lets a module of flwr ask for an object that is still on its way again after 0.1 s, where Flower waits a second at first.

    A receiver hears of a message before its objects are there, so that second comes with most messages, at every hop. Objects whose
    sender has died never come: it gives up when the SuperLink does, and not after Flower's two hours.
    """
    terms = {"initial_backoff": FIRST_PAUSE_SECONDS, "max_time": OBJECT_PUSH_SESSION_TTL_SECONDS}
    for name in ("pull_objects", "pull_and_inflate_object_from_tree"):
        if hasattr(module, name):
            setattr(module, name, partial(getattr(inflatable_utils, name), **terms))


def runtime_client(
    address: str, component: str, *, roots: bytes | None, token: str = "", secret: bytes = b"", patience: float = 0.0
) -> RuntimeHttpClient:
    """A client of a SuperLink's or SuperNode's Runtime API.

    Args:
        address: host and port.
        component: Flower's name for who asks, such as "flwr-clientapp".
        roots: PEM of the authority that certified the server; None is HTTP without TLS, for a SuperNode on this machine.
        token: of the claimed task.
        secret: shared with the server, for claiming tasks.
        patience: seconds for which a server that is away is asked again.
    """
    interceptors = [RuntimeVersionHttpInterceptor(component_name=component)]
    if token:
        interceptors.append(RuntimeTokenHttpInterceptor(token))
    if secret:
        interceptors.append(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE})))
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=roots is None,
        root_certificates=roots,
        interceptors=interceptors,
        retry_invoker=patient(patience) if patience else None,
    )


@contextmanager
def heart_beats(client: RuntimeHttpClient, on_beat: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Sends the heartbeats of the client's task from a thread; `client` is used by nothing else and has no retries.

    A task that the server has given up is noticed by the next real call; Flower's own function would send us SIGINT.
    """

    def beat() -> bool:
        try:
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
        except httpx.HTTPError:
            return False
        on_beat()
        return True

    sender = HeartbeatSender(beat)
    sender.start()
    try:
        yield
    finally:
        if sender.is_running:
            sender.stop()


@contextmanager
def translated(peer: str) -> Iterator[None]:
    """What Flower's clients raise, as FlowerAway or FlowerRefused. `peer` names the other process and its address."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in _TRANSIENT:
            raise FlowerAway(f"{peer} answers with HTTP status {status}; see its log") from None
        raise FlowerRefused(f"{peer} refuses a request with HTTP status {status}; see its log", status) from None
    except httpx.HTTPError as error:
        raise FlowerAway(f"{peer} does not answer ({type(error).__name__}); see whether it runs") from None
    except (ObjectPushError, ObjectPullError):
        raise FlowerAway(f"{peer} has let go of a message that was under way; ask again") from None


def _final(error: Exception) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code not in _TRANSIENT
    return "certificate verify failed" in str(error).lower()
