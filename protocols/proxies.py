"""What stays on this machine goes through no proxy of the network, whatever the environment says."""

from __future__ import annotations

from collections.abc import Mapping

OWN_MACHINE = ("127.0.0.1", "localhost")


def without_proxy(base: Mapping[str, str]) -> dict[str, str]:
    """The variables that exempt this machine, beside what `base` exempts; Flower's clients and httpx obey them.

    Between node and SuperNode there is no TLS: a proxy would be sent every message in clear.
    """
    exempt = ",".join(part for part in (base.get("NO_PROXY", base.get("no_proxy", "")), *OWN_MACHINE) if part)
    return {"NO_PROXY": exempt, "no_proxy": exempt}
