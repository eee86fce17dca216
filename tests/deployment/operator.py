"""An operator with a real registry, a real authority and a real server, in this process; its clock can be set forward."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coordinator.admission import approve, find_request
from coordinator.authority import Authority
from coordinator.invitations import invite
from coordinator.operator_home import OperatorHome, make_operator_home
from coordinator.registry import Registry
from coordinator.service.methods import METHODS
from coordinator.service.served import Resources, Served
from coordinator.service.server import start_server
from coordinator.settings import CoordinatorSettings, ServeSettings
from protocols.invitation import InvitationFile, write_invitation


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Operator:
    home: OperatorHome
    port: int
    ahead: timedelta = timedelta()
    registry: Registry = field(init=False)
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.registry = self.home.open_registry(self.clock)
        self.authority = self.home.authority(self.clock, os.urandom)

    def clock(self) -> datetime:
        return now() + self.ahead

    @property
    def resources(self) -> Resources:
        return Resources(self.registry, self.authority, self.home.identity.public_key, self.home.models, self.clock)

    def invite(self, name: str, path: Path) -> InvitationFile:
        serve, key = self.home.settings.serve, self.home.identity.public_key
        made = invite(self.registry, self.authority, name, serve, key, self.clock())
        write_invitation(path, made)
        return made

    def approve(self, name: str) -> None:
        request = find_request(self.registry, name)
        assert request is not None
        approve(self.registry, self.authority, request)

    @contextmanager
    def serving(self, methods: Sequence[Served] = METHODS) -> Iterator[None]:
        running = start_server(self.resources, f"127.0.0.1:{self.port}", methods)
        try:
            yield
        finally:
            running.stop(0)


def make_operator(folder: Path, port: int) -> Operator:
    settings = CoordinatorSettings(serve=ServeSettings(name="the-operator", hosts=("127.0.0.1",), service_port=port))
    return Operator(make_operator_home(folder, settings, now, os.urandom), port)
