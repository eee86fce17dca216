"""How the institutions of a deployment may be called: names stand in certificates, file names, commands and tables."""

from __future__ import annotations

import re

from protocols.errors import RosterError

PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
RESERVED = frozenset({"coordinator"})  # the operator's own name in envelopes


def check_institution_name(name: str) -> str:
    """The name itself.

    Raises:
        RosterError: it is not one that an institution may have.
    """
    if not PATTERN.fullmatch(name):
        raise RosterError(f"{name[:60]!r} cannot be an institution's name; use at most 40 lower-case letters, digits and hyphens")
    if name in RESERVED:
        raise RosterError(f"{name} names the operator's side; give the institution another name")
    return name
