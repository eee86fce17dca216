"""What Prometheus is told at an institution: read from its ledger and its processes whenever it asks, for its own people alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from client.errors import LedgerError
from client.figures import BYTES, COUNT, REFUSED, SECONDS, read_tally
from client.ledger import Ledger
from client.settings import load_settings
from client.spending import policy_of, spending
from protocols.child import Child
from protocols.metrics import Collector, Metric, counter, gauge, summary

TALLY, ANSWERED = Path("flower/figures.json"), Path("flower/answered")  # in an institution's folder


class NodeFigures(Collector):
    """The node of an institution's folder, from its files: the node itself need not be this process."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock
        self._known = (0, 0.0)  # number of charges, and the epsilon that they make: composing them takes a while

    def collect(self) -> Iterator[Metric]:
        yield from self._answers()
        yield gauge("node_last_contact_timestamp_seconds", "When the SuperNode answered last.", {(): _touched(self._folder / ANSWERED)})
        yield gauge("node_last_message_timestamp_seconds", "When the node answered last.", {(): _touched(self._folder / TALLY)})
        try:
            of_ledger = self._of_ledger()
        except LedgerError:
            of_ledger = []
        yield gauge("node_ledger_readable", "Whether the ledger can be read.", {(): bool(of_ledger)})
        yield from of_ledger

    def _answers(self) -> Iterator[Metric]:
        tally = read_tally(self._folder / TALLY)
        times = {(kind,): (int(one[COUNT]), one[SECONDS]) for kind, one in tally.items()}
        yield summary("node_answer_seconds", "Seconds of answers; train.sum trains and masks.", times, "message")
        yield counter("node_bytes_sent", "Bytes of answers.", {(kind,): one[BYTES] for kind, one in tally.items()}, "message")
        refused = {(kind,): one[REFUSED] for kind, one in tally.items()}
        yield counter("node_refusals", "Requests that were declined or could not be answered.", refused, "message")

    def _of_ledger(self) -> list[Metric]:
        ledger = Ledger.look(Path(load_settings(self._folder / "institution.toml").storage.home), self._clock)
        try:
            rounds = {(one.run, one.round) for one in ledger.finished_sums()}
            spent = self._epsilon(ledger)
        finally:
            ledger.close()
        return [
            counter("node_rounds", "Rounds of all runs in which a sum was finished.", {(): len(rounds)}),
            gauge("node_epsilon_spent", "Of all private runs, at the policy's max_delta.", {(): spent}),
        ]

    def _epsilon(self, ledger: Ledger) -> float:
        count = len(ledger.privacy.charges())
        if count != self._known[0]:
            self._known = count, spending(ledger, policy_of(self._folder)).epsilon
        return self._known[1]


class ChildFigures(Collector):
    """Processes that this one watches."""

    def __init__(self, children: Mapping[str, Child]) -> None:
        self._children = children

    def collect(self) -> Iterator[Metric]:
        starts = {(name,): float(child.starts) for name, child in self._children.items()}
        yield counter("child_starts", "How often a process was started.", starts, "process")
        up = {(name,): float(child.running) for name, child in self._children.items()}
        yield gauge("child_up", "Whether a process runs.", up, "process")


def _touched(path: Path) -> float:
    """Seconds since 1970; 0 if never."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
