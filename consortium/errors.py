"""What goes wrong at the front door; each text is one sentence that says what to do."""

from __future__ import annotations

from protocols.errors import ConsortiumError


class SimulationError(ConsortiumError):
    """A simulation that cannot start, go on or be reported."""
