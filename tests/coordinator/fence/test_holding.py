"""A question for messages waits at the fence until there is one, nobody waits for it, or it is late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.coordinator.fence.conftest import Site
from tests.coordinator.fence.loopback import ANSWER, CLOSE, PULL, PUSH, connect, statuses

Open = Callable[..., Site]
LONG = 10.0


def wait_until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_question_is_asked_again_until_there_is_a_message(site: Site) -> None:
    site.behind.answer, received = b"", []
    asking = threading.Thread(target=lambda: received.append(site.send(site.node.request(PULL, b"who", changed=CLOSE), LONG)))
    asking.start()
    wait_until(lambda: len(site.behind.bodies) > 1)
    site.behind.answer = ANSWER
    asking.join(10)
    assert received[0].endswith(ANSWER)
    assert set(site.behind.bodies) == {b"who"}


def test_late_question_is_answered_with_nothing(open_site: Open) -> None:
    site = open_site(hold_seconds=0.3)
    site.behind.answer = b""
    received = site.send(site.node.request(PULL, changed=CLOSE), LONG)
    assert statuses(received) == [200]
    assert received.endswith(b"\r\n\r\n")
    assert len(site.behind.paths) > 1


def test_more_nodes_than_may_wait_are_answered_at_once(open_site: Open) -> None:
    site = open_site(held=0)
    site.behind.answer = b""
    assert statuses(site.send(site.node.request(PULL, changed=CLOSE), LONG)) == [200]
    assert len(site.behind.paths) == 1


def test_empty_answers_to_other_calls_are_answers(site: Site) -> None:
    site.behind.answer = b""
    assert statuses(site.send(site.node.request(PUSH, changed=CLOSE))) == [200]
    assert len(site.behind.paths) == 1


def test_who_left_gets_no_message(site: Site) -> None:
    site.behind.answer = b""
    with connect(site.fence.port, site.certificate) as connection:
        connection.sendall(site.node.request(PULL))
        wait_until(lambda: site.behind.paths)
    asked = len(site.behind.paths)
    time.sleep(1.0)
    assert len(site.behind.paths) <= asked + 1  # one may have been under way


def test_who_is_no_participant_any_more_gets_no_message(site: Site) -> None:
    site.behind.answer, received = b"", []
    asking = threading.Thread(target=lambda: received.append(site.send(site.node.request(PULL, changed=CLOSE), LONG)))
    asking.start()
    wait_until(lambda: site.behind.paths)
    site.admitted.clear()
    asking.join(10)
    assert statuses(received[0]) == [503]


def test_fence_that_ends_waits_for_no_message(site: Site) -> None:
    site.behind.answer, received = b"", []
    asking = threading.Thread(target=lambda: received.append(site.send(site.node.request(PULL), LONG)))
    asking.start()
    wait_until(lambda: site.behind.paths)
    site.fence.stop()
    asking.join(10)
    assert statuses(received[0]) == [200]
