"""Raw bytes against a fence: requests whose two readers would disagree, and requests that do not end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.fence import routes
from tests.coordinator.fence.conftest import Site
from tests.coordinator.fence.loopback import PULL, PUSH, Changed, connect, read_all, statuses
from tests.federation.attacks.weakened import weakened

HIDDEN = b"POST /v1/control/start-run HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
TARGETS = {
    "dot segments": "/v1/fleet/../control/start-run",
    "encoded dots": "/v1/fleet/%2e%2e/control/start-run",
    "encoded slash": "/v1/fleet/..%2fcontrol/start-run",
    "encoded letter": "/v1/fleet/pull%2dmessages",
    "doubled slash": "//v1/fleet/pull-messages",
    "doubled slash within": "/v1/fleet//pull-messages",
    "single dot": "/v1/fleet/./pull-messages",
    "slash at the end": "/v1/fleet/pull-messages/",
    "backslash": "/v1/fleet\\..\\control/start-run",
    "absolute form": "https://localhost/v1/fleet/pull-messages",
    "absolute form of another": "http://127.0.0.1/v1/control/start-run",
    "fragment": "/v1/fleet/pull-messages#x",
    "parameter": "/v1/fleet/pull-messages;x",
    "capitals": "/V1/fleet/pull-messages",
}


class Prefix(dict[tuple[str, bytes], int]):
    """The weakened list: whatever begins like the fleet's paths."""

    def get(self, key: Any, default: Any = None) -> Any:
        return routes.OBJECT_BYTES if key[1].startswith(b"/v1/fleet/") else default


def test_fence_smuggling(site: Site) -> None:
    """Named attack: a node that is admitted starts a run by a path that reads like one of the fleet's."""
    attack = site.node.request(TARGETS["dot segments"])
    assert statuses(site.send(attack)) == [404]
    assert site.behind.paths == []
    with weakened("coordinator.fence.head.ROUTES", by=Prefix()):
        assert statuses(site.send(attack)) == [200]
    assert site.behind.paths == ["/v1/control/start-run"]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_target_that_is_not_exactly_on_the_list_is_refused(site: Site, target: str) -> None:
    assert statuses(site.send(site.node.request(target))) == [404]
    assert site.behind.paths == []


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "post", "CONNECT"])
def test_other_methods_are_refused(site: Site, method: str) -> None:
    assert statuses(site.send(site.node.request(method=method))) == [404]
    assert site.behind.paths == []


EXTRAS = {
    "both lengths": "transfer-encoding: chunked\r\n",
    "length twice": "content-length: 0\r\n",
    "two lengths": f"content-length: {len(HIDDEN)}\r\n",
    "length in capitals twice": "Content-Length: 0\r\n",
    "host twice": "host: localhost\r\n",
    "upgrade": "connection: upgrade\r\nupgrade: websocket\r\n",
    "upgrade alone": "upgrade: h2c\r\n",
    "connection names a header": "connection: flwr-signature\r\n",
    "two keys": "flwr-public-key: QQ==\r\n",
    "folded": "x-note: a\r\n b\r\n",
    "folded listed": "flwr-package-name:\r\n flwr\r\n",
    "bare line feed": "x-note: a\nx-other: b\r\n",
    "bare carriage return": "x-note: a\rx-other: b\r\n",
    "blank before colon": "x-note : a\r\n",
    "no colon": "x-note\r\n",
    "null byte": "x-note: \0\r\n",
    "huge": f"x-note: {'a' * 20_000}\r\n",
}


@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
def test_head_with_two_readings_is_refused_and_ends_the_connection(site: Site, extra: str) -> None:
    assert statuses(site.send(site.node.request(extra=extra) + HIDDEN + site.node.request())) == [400]
    assert site.behind.paths == []


MENDED = ("length twice", "folded", "folded listed", "bare line feed", "huge")


@pytest.mark.parametrize("extra", MENDED)
def test_h11_alone_would_pass_heads_with_two_readings(site: Site, extra: str) -> None:
    with weakened("coordinator.fence.strict._is_loose", by=lambda _: False):
        assert statuses(site.send(site.node.request(extra=EXTRAS[extra]))) == [200]


CHANGED: dict[str, Changed] = {
    "chunked alone": {"content-length": None, "transfer-encoding": "chunked"},
    "no length": {"content-length": None},
    "negative length": {"content-length": "-1"},
    "signed length": {"content-length": "+4"},
    "list of lengths": {"content-length": "0, 0"},
    "other type": {"content-type": "text/plain"},
    "no key": {"flwr-public-key": None},
    "key that is no base64": {"flwr-public-key": "A"},
    "time without zone": {"flwr-timestamp": "2030-01-01T00:00:00"},
    "impossible time": {"flwr-timestamp": "2030-13-01T00:00:00+00:00"},
    "no host": {"host": None},
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_head_that_flwrs_client_would_not_send_is_refused(site: Site, changed: Changed) -> None:
    assert statuses(site.send(site.node.request(changed=changed))) == [400]
    assert site.behind.paths == []


def test_query_and_older_http_are_refused(site: Site) -> None:
    assert statuses(site.send(site.node.request(f"{PULL}?x=1"))) == [400]
    assert statuses(site.send(site.node.request().replace(b"HTTP/1.1", b"HTTP/1.0", 1))) == [400]
    assert site.behind.paths == []


def test_preface_of_http2_is_refused(site: Site) -> None:
    assert statuses(site.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) == [404]


@pytest.mark.parametrize(("target", "longest"), [(PULL, routes.CALL_BYTES), (PUSH, routes.OBJECT_BYTES)])
def test_body_over_the_cap_is_refused_before_it_is_read(site: Site, target: str, longest: int) -> None:
    assert statuses(site.send(site.node.request(target, changed={"content-length": str(longest + 1)}))) == [413]
    assert site.behind.paths == []


def test_request_behind_a_body_is_a_request_of_its_own(site: Site) -> None:
    assert statuses(site.send(site.node.request(body=b"x") + HIDDEN)) == [200, 404]
    assert site.behind.paths == [PULL]


def test_body_that_ends_early_reaches_nobody_whole(site: Site) -> None:
    with connect(site.fence.port, site.certificate) as tls:
        tls.sendall(site.node.request(PUSH, b"half", changed={"content-length": "8"}))
    assert statuses(site.send(site.node.request(body=b"next"))) == [200]
    assert b"next" in site.behind.bodies
    assert set(site.behind.bodies) <= {b"", b"half", b"next"}


def test_head_that_does_not_come_ends_the_connection(open_site: Callable[..., Site]) -> None:
    site = open_site(head_seconds=1)
    with connect(site.fence.port, site.certificate) as silent, connect(site.fence.port, site.certificate) as slow:
        slow.sendall(b"POST ")
        assert (read_all(silent), read_all(slow)) == (b"", b"")
    with connect(site.fence.port, site.certificate) as second:
        second.sendall(site.node.request() + b"POST ")
        assert statuses(read_all(second)) == [200]


def test_connections_over_the_limit_are_told_to_wait(open_site: Callable[..., Site]) -> None:
    site = open_site(connections=2)
    with connect(site.fence.port, site.certificate), connect(site.fence.port, site.certificate):
        assert statuses(site.send(site.node.request())) == [503]
