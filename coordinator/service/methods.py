"""All methods that the service answers, noun by noun."""

from __future__ import annotations

from coordinator.service.clock import CLOCK
from coordinator.service.joining import JOINING
from coordinator.service.models import MODELS
from coordinator.service.roster import ROSTERS
from coordinator.service.served import Served
from coordinator.service.spending import SPENDING
from coordinator.service.withdrawing import WITHDRAWING

METHODS: tuple[Served, ...] = (*JOINING, *CLOCK, *ROSTERS, *MODELS, *WITHDRAWING, *SPENDING)
