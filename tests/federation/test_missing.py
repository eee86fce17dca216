"""Who was missing and why is in the registry, and no sum is of fewer institutions than the plan allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.absences import Absence, absences
from coordinator.errors import JobError
from coordinator.registry.states import RunState
from protocols.transcript import Transcript
from tests.federation.federation import Federation, make_plan
from tests.federation.private_plans import SMALL


def test_why_an_institution_was_missing_is_recorded(tmp_path: Path) -> None:
    made = Federation(tmp_path, make_plan(trainable=SMALL), fails=lambda name, stage: name == "dov" and stage == "train.sum")
    result = made.run()
    (missing,) = absences(made.registry.rounds(result.run))
    assert (missing.institution, missing.rounds) == ("dov", (1, 2))
    assert missing.reason and len(missing.reason) <= 200 and missing.reason.isprintable()
    made.close()


def test_long_reasons_of_members_are_cut_and_on_one_line(tmp_path: Path) -> None:
    made = Federation(tmp_path, make_plan(trainable=SMALL))
    made.works["dov"].base_sha256 = "cd" * 32
    result = made.run()
    assert absences(made.registry.rounds(result.run)) == (
        Absence("dov", (0, 1, 2), "the base tiny on the disk of dov is not the plan's; install the checkpoint with the plan's hash"),
    )
    made.close()


@pytest.mark.parametrize(
    "plan", [{"participation": {"quorum": 4, "deadline": "5s", "retries": 1}}, {"secure_aggregation": {"min_institutions": 4}}]
)
def test_run_with_fewer_than_its_plan_allows_in_any_round_does_not_finish(tmp_path: Path, plan: dict[str, object]) -> None:
    asked = 0

    def fails(name: str, stage: str) -> bool:
        nonlocal asked
        asked += name == "dov" and stage == "train.sum"
        return name == "dov" and stage == "train.sum" and asked > 1  # from the second round on

    made = Federation(tmp_path, make_plan(trainable=SMALL, **plan), fails=fails)
    with pytest.raises(JobError, match="4 are needed|needs 4"):
        made.run()
    (run,) = made.registry.runs()
    assert run.state is RunState.FAILED and "dov" in run.reason
    for path in (tmp_path / "runs" / run.run / "sums").glob("*/transcript"):
        assert len(Transcript.from_bytes(path.read_bytes()).certificate.proposal.members) == 4
    made.close()
