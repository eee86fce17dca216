"""Where a serving operator's processes keep their files, below its home."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.flower_link import SuperLinkFiles
from coordinator.operator_home import OperatorHome


@dataclass(frozen=True, slots=True)
class Places:
    """Paths below an operator's home."""

    home: OperatorHome

    @property
    def superlink(self) -> SuperLinkFiles:
        """What the SuperLink reads and writes."""
        tls, own = self.home.tls, self.flower
        return SuperLinkFiles(own / "state.db", own / "secret", tls / "ca.pem", tls / "server.pem", tls / "server.key")

    @property
    def flower(self) -> Path:
        """Flower's own folder."""
        return self.home.folder / "superlink"

    @property
    def claims(self) -> Path:
        """Locked by who claims the task of a run."""
        return self.flower / "claims"

    @property
    def runs(self) -> Path:
        """Journals, transcripts and states of runs."""
        return self.home.folder / self.home.settings.runs_folder(self.home.registry)

    @property
    def heartbeat(self) -> Path:
        """Touched whenever the supervisor has looked at everything."""
        return self.home.folder / "heartbeat"

    def stage_times(self, name: str) -> Path:
        """Seconds of the stages of the run of that name."""
        return self.home.folder / "figures" / f"{name}.json"

    def log(self, name: str) -> Path:
        """What a process of that name said."""
        return self.home.folder / "logs" / f"{name}.log"

    def base(self, sha256: str) -> Path:
        """The folder with a base's `config.json`, as it was when a plan with it was submitted."""
        return self.home.folder / "bases" / sha256
