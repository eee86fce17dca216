"""Now: what the operator's clock says, and that the caller's certificate is still accepted."""

from __future__ import annotations

from coordinator.service.served import Member, Resources, Served
from protocols.service import NOW, NowAnswer


def _now(at: Resources, *_: object) -> NowAnswer:
    return NowAnswer(at.clock().isoformat())


CLOCK = (Served(NOW, (Member,), _now),)
