"""The fence's lists against the installed flwr: whatever changes there must be decided here."""

from __future__ import annotations

from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE, SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_COMPONENT_NAME_METADATA_KEY,
    FLWR_PACKAGE_NAME_METADATA_KEY,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
    VERSION_INCOMPATIBILITY_MESSAGE_METADATA_KEY,
)
from flwr.superlink.routers.fleet.router import router
from flwr.supernode.fleet_http_client import FleetHttpClient

from coordinator.fence import identity, routes


def test_every_fleet_route_of_flwr_is_allowed_or_refused_by_name() -> None:
    installed = {(method, route.path.encode()) for route in router.routes for method in route.methods}
    assert set(routes.ROUTES) | routes.REFUSED == installed
    assert not set(routes.ROUTES) & routes.REFUSED


def test_every_call_of_flwrs_client_is_allowed_or_refused_by_name() -> None:
    named = [name for name in vars(FleetHttpClient) if name[0].isupper()]
    assert len(named) == len(routes.ROUTES) + len(routes.REFUSED)


def test_headers_are_those_of_flwr() -> None:
    assert routes.PUBLIC_KEY.decode() == FLEET_HTTP_PUBLIC_KEY_HEADER
    assert routes.SIGNATURE.decode() == FLEET_HTTP_SIGNATURE_HEADER
    assert routes.TIMESTAMP.decode() == TIMESTAMP_HEADER
    versions = {FLWR_PACKAGE_NAME_METADATA_KEY, FLWR_PACKAGE_VERSION_METADATA_KEY, FLWR_COMPONENT_NAME_METADATA_KEY}
    assert {name.decode() for name in routes.OPTIONAL_HEADERS} == versions
    assert VERSION_INCOMPATIBILITY_MESSAGE_METADATA_KEY.encode() in routes.ANSWER_HEADERS


def test_tolerances_and_sizes_are_those_of_flwr() -> None:
    assert (TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE, -SYSTEM_TIME_TOLERANCE) == (identity._OLDEST, identity._EARLIEST)
    assert routes.OBJECT_BYTES > FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
