"""Everything that `consortium coordinator serve` runs, from start to stop."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from coordinator.fence.serving import Fence
from coordinator.flower_link import FlowerLink
from coordinator.lease import is_gone, owner
from coordinator.operator_home import OperatorHome
from coordinator.serve.figures import Figures
from coordinator.serve.places import Places
from coordinator.serve.supervisor import Edges, Supervisor
from coordinator.service.served import Resources
from coordinator.service.server import start_server
from protocols.files import make_folder, write_file
from protocols.metrics import serve_metrics

STEP_SECONDS = 0.5
CALL_PATIENCE = 10.0  # seconds for which a call of the service waits for the database: less than a call may last
_SECRET_BYTES = 32


def serve(home: OperatorHome, environment: Mapping[str, str], should_stop: Callable[[], bool], say: Callable[[str], None]) -> None:
    """Serves until `should_stop`; called by a process's main thread.

    Raises:
        LeaseHeld: another coordinator serves this registry.
        ConsortiumError: a port is taken, or a file of the home is missing.
    """
    places = Places(home)
    with _supervised(places, environment, say) as supervisor:
        settings = home.settings.serve
        say(f"serving: SuperNodes at {settings.fence}, the registry service at {settings.service}")
        while not should_stop():
            supervisor.step()
            places.heartbeat.touch()
            time.sleep(STEP_SECONDS)
        say("stopping; runs go on from their journals when this is served again")


@contextmanager
def _supervised(places: Places, environment: Mapping[str, str], say: Callable[[str], None]) -> Iterator[Supervisor]:
    """The supervisor with its lease, behind a fence and beside a service that are open until the end."""
    home = places.home
    settings = home.settings.serve
    with ExitStack() as stack:
        registry = home.open_registry(_now)
        stack.callback(registry.close)
        files = places.superlink
        link = FlowerLink(f"127.0.0.1:{settings.superlink_port}", files.authority.read_bytes(), _secret(files.secret))
        supervisor = Supervisor(places, registry, link, Edges(environment, owner(), is_gone, say))
        supervisor.take_lease()
        stack.callback(supervisor.stop)
        figures = Figures(registry, places, supervisor, link.healthy)
        stack.enter_context(serve_metrics(settings.metrics_port, figures))
        stack.enter_context(
            Fence(
                settings.listen,
                settings.fence_port,
                certificate=files.certificate,
                key=files.key,
                superlink=f"https://127.0.0.1:{settings.superlink_port}",
                ca=files.authority,
                is_admitted=supervisor.keys.is_admitted,
            )
        )
        # The supervisor looks again at its next step anyway; a call of an institution has no other try.
        waiting = registry.patient(min(settings.database_patience, CALL_PATIENCE))
        resources = Resources(waiting, home.authority(_now, os.urandom), home.identity.public_key, home.models, _now)
        server = start_server(resources, f"{settings.listen}:{settings.service_port}")
        stack.callback(server.stop, settings.stop_seconds)
        yield supervisor


def _secret(path: Path) -> bytes:
    """What the SuperLink and those who claim its tasks share; made on first use."""
    if not path.exists():
        make_folder(path.parent, 0o700)
        write_file(path, secrets.token_hex(_SECRET_BYTES).encode(), 0o600)
    return path.read_bytes()


def _now() -> datetime:
    return datetime.now(UTC)
