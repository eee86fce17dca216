"""Requests that differ by institution and are large: each is made when it is sent, because all of them may be more than fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping


class Payloads(Mapping[str, bytes]):
    """What `make` makes for each of `names`, anew whenever it is looked up."""

    def __init__(self, names: Collection[str], make: Callable[[str], bytes]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> bytes:
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
