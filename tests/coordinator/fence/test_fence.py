"""What passes a fence, what it passes on, and whom it lets wait."""

from __future__ import annotations

import datetime
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.proto.fleet_pb2 import ActivateNodeResponse
from flwr.supernode.fleet_http_connection import http_request_response

from client.checks.connection import check_fence
from coordinator.fence import routes
from coordinator.fence.serving import Fence, FenceError
from tests.coordinator.fence.conftest import Site
from tests.coordinator.fence.loopback import ANSWER, CLOSE, PUSH, Node, connect, read_all, statuses

Open = Callable[..., Site]
OTHERS = ["/v1/fleet/register-node", "/v1/control/start-run", "/v1/runtime/acquire-task", "/docs", "/openapi.json", "/health", "/"]


def test_an_institution_finds_a_fence_at_its_address(site: Site) -> None:
    assert check_fence(f"127.0.0.1:{site.fence.port}", site.certificate).outcome == "ok"
    assert site.behind.paths == []


def test_client_of_flwr_passes_without_registering_itself(site: Site) -> None:
    site.behind.answer = ActivateNodeResponse(node_id=7).SerializeToString()
    keys = (site.node.private, site.node.private.public_key())
    with http_request_response(f"127.0.0.1:{site.fence.port}", False, site.certificate.read_bytes(), keys) as connection:
        assert connection[0] == 7
    assert set(site.behind.paths) <= {f"/v1/fleet/{name}" for name in ("activate-node", "send-node-heartbeat", "deactivate-node")}
    assert site.behind.paths[0] == "/v1/fleet/activate-node"


def test_listed_headers_alone_pass_in_both_directions(site: Site) -> None:
    extra = "flwr-package-version: 1.41.0\r\nflwr-task-token: stolen\r\nx-forwarded-for: 10.0.0.1\r\ncookie: a=b\r\n"
    received = site.send(site.node.request(body=b"call", extra=extra, changed=CLOSE))
    assert received.endswith(ANSWER)
    assert statuses(received) == [200]
    assert b"cookie" not in received
    assert b"location" not in received
    listed = {name.decode() for name in (*routes.REQUIRED_HEADERS, b"flwr-package-version")}
    assert set(site.behind.headers[0]) == listed | {"host"}
    assert site.behind.headers[0]["host"] in site.behind.address
    assert site.behind.bodies == [b"call"]


def test_connection_serves_several_requests(site: Site) -> None:
    requests = [site.node.request(body=b"1"), site.node.request(body=b"2"), site.node.request(changed=CLOSE)]
    assert statuses(site.send(b"".join(requests))) == [200] * 3
    assert site.behind.bodies == [b"1", b"2", b""]


def test_large_objects_pass_whole_both_ways(site: Site) -> None:
    site.behind.answer = bytes(range(256)) * 2**14
    body = bytes(reversed(range(256))) * 2**14
    received = site.send(site.node.request(PUSH, body, changed=CLOSE))
    assert received.endswith(site.behind.answer)
    assert site.behind.bodies == [body]


@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_are_not_found(site: Site, path: str) -> None:
    received = site.send(site.node.request(path))
    assert statuses(received) == [404]
    assert received.endswith(b"\r\n\r\n")
    assert site.behind.paths == []


def test_unknown_key_wrong_signature_and_old_time_look_the_same(site: Site) -> None:
    stranger = Node()
    old = site.node.headers(at=datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=306))
    forged = {"flwr-signature": stranger.headers()["flwr-signature"]}
    answers = {site.send(stranger.request()), site.send(site.node.request(changed=forged)), site.send(site.node.request(changed=old))}
    assert [statuses(answer) for answer in answers] == [[503]]
    assert site.behind.paths == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_node_whose_clock_is_an_hour_off_waits_until_it_is_right(hours: int, open_site: Open) -> None:
    """Refused with the status after which a SuperNode tries again by itself."""
    apart = [3600.0 * hours]
    site = open_site(now=lambda: time.time() + apart[0])
    assert statuses(site.send(site.node.request())) == [503]
    apart[0] = 0.0
    assert statuses(site.send(site.node.request())) == [200]


def test_node_is_refused_from_the_moment_it_is_no_participant(site: Site) -> None:
    assert statuses(site.send(site.node.request())) == [200]
    site.admitted.clear()
    assert statuses(site.send(site.node.request())) == [503]


def test_node_over_its_rate_waits_and_others_do_not(open_site: Open) -> None:
    clock = [0.0]
    site = open_site(clock=lambda: clock[0], burst=2, requests_per_second=0.5)
    other = Node()
    site.admitted.add(other.public)
    assert [statuses(site.send(site.node.request())) for _ in range(3)] == [[200], [200], [503]]
    assert statuses(site.send(other.request())) == [200]
    clock[0] = 2.0
    assert [statuses(site.send(site.node.request())) for _ in range(2)] == [[200], [503]]


def test_forged_requests_do_not_use_up_the_rate_of_a_node(open_site: Open) -> None:
    site = open_site(clock=lambda: 0.0, burst=1)
    forged = {"flwr-signature": Node().headers()["flwr-signature"]}
    assert [statuses(site.send(site.node.request(changed=forged))) for _ in range(3)] == [[503]] * 3
    assert statuses(site.send(site.node.request())) == [200]


def test_node_has_so_many_requests_under_way(open_site: Open) -> None:
    site = open_site(at_once=1)
    with connect(site.fence.port, site.certificate) as tls:
        tls.sendall(site.node.request(PUSH, b"half", changed={"content-length": "8"}))
        _wait_for(lambda: site.behind.headers)
        assert statuses(site.send(site.node.request())) == [503]
        tls.sendall(b"rest")
        assert tls.recv(4096).startswith(b"HTTP/1.1 200")
    _wait_for(lambda: statuses(site.send(site.node.request())) == [200])


def test_superlink_that_is_away_is_told_as_503(site: Site) -> None:
    site.behind.close()
    assert statuses(site.send(site.node.request())) == [503]


def test_fault_of_the_superlink_makes_a_node_wait_and_its_refusals_pass(site: Site) -> None:
    site.behind.status = 500
    assert statuses(site.send(site.node.request())) == [503]
    site.behind.status = 412
    assert statuses(site.send(site.node.request())) == [412]


def test_fence_says_why_it_cannot_open(site: Site, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    def fence(port: int, pem: Path) -> Fence:
        address = site.behind.address
        return Fence("127.0.0.1", port, certificate=pem, key=certificate[1], superlink=address, ca=certificate[0], is_admitted=bool)

    with pytest.raises(FenceError, match="cannot listen.*in use"):
        fence(site.fence.port, certificate[0]).start()
    with pytest.raises(FenceError, match="cannot listen.*No such file"):
        fence(0, tmp_path / "none.pem").start()


def test_stopped_fence_takes_no_connection(site: Site) -> None:
    site.fence.stop()
    assert not site.fence.running
    with pytest.raises(OSError):  # noqa: PT011 (refused or reset)
        socket.create_connection(("127.0.0.1", site.fence.port), timeout=1)


def test_slow_body_ends(open_site: Open) -> None:
    site = open_site(grace_seconds=0.3)
    with connect(site.fence.port, site.certificate) as tls:
        tls.sendall(site.node.request(PUSH, b"half", changed={"content-length": "8"}))
        assert statuses(read_all(tls)) == [503]
    assert site.behind.bodies in ([], [b"half"])


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()
