"""What an institution's people decided about runs, in files beside the ledger: a command writes them and the node, at work, reads them.

The ledger has one writer, the node. These files have another, the command line, and each is replaced as a whole.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from client.errors import LedgerError
from protocols.acceptance import Withdrawal
from protocols.errors import MalformedMessage
from protocols.files import write_file


class Decision(BaseModel):
    """A person's word on one plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    plan_sha256: str  # a changed plan is another one
    accepted: bool
    reason: str = ""  # of a refusal
    terms_sha256: str = ""
    terms_read: bool = False  # whether the text was there to be read, and was the plan's
    at: str = ""


class Decisions:
    """Files `approvals/RUN` and `withdrawals/RUN` in the node's home; a run's id is a file's name by `client.answering`'s rule."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def decision(self, run: str) -> Decision | None:
        """None where nobody decided yet.

        Raises:
            LedgerError: the file is damaged.
        """
        path = self._home / "approvals" / run
        try:
            return Decision.model_validate_json(path.read_bytes()) if path.exists() else None
        except ValidationError:
            raise LedgerError(f"{path} is no decision about a plan; decide again with `consortium client approve {run}`") from None

    def decide(self, run: str, decision: Decision) -> None:
        write_file(self._home / "approvals" / run, decision.model_dump_json(indent=1).encode() + b"\n", mode=0o600)

    def is_withdrawn(self, run: str) -> bool:
        """Whatever the file holds: a damaged one ends participation too."""
        return (self._home / "withdrawals" / run).exists()

    def withdrawal(self, run: str) -> Withdrawal | None:
        """The signed statement.

        Raises:
            LedgerError: the file is damaged.
        """
        path = self._home / "withdrawals" / run
        try:
            return Withdrawal.from_bytes(path.read_bytes()) if path.exists() else None
        except MalformedMessage:
            raise LedgerError(f"{path} is no withdrawal, and the node refuses the run all the same; remove it and withdraw again") from None

    def withdraw(self, withdrawal: Withdrawal) -> None:
        write_file(self._home / "withdrawals" / withdrawal.run, withdrawal.to_bytes(), mode=0o600)
