"""`kill -9` of every process of a deployment, at several stages: the run goes on by itself, to the same bits where nobody was left out.

One deployment serves all tests. The plan wants all four institutions in every sum, so that a run which is disturbed waits for whom it
lost, and ends with the model of one that was not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployment.killable import Killable, stand_up_killable

pytestmark = pytest.mark.slow

TRAINING = r"round 0 is over"  # the next that institutions do is to train
UPLOADED = r"round 1, update sum.* 4 answered train.sum"
SIGNED = r"round 1, update sum.* answered query.survivors"
BETWEEN = r"round 1 is over"
KILLS: dict[str, list[tuple[str, str, int | None]]] = {
    "a node": [(TRAINING, "node", 0), (SIGNED, "node", 1)],
    "a SuperNode": [(TRAINING, "supernode", 0), (UPLOADED, "supernode", 1), (SIGNED, "supernode", 2), (BETWEEN, "supernode", 3)],
    "the SuperLink": [(TRAINING, "superlink", None), (UPLOADED, "superlink", None), (SIGNED, "superlink", None)],
    "the run's process": [(stage, "run", None) for stage in (TRAINING, UPLOADED, SIGNED, BETWEEN)],
    "the coordinator": [(stage, "serve", None) for stage in (TRAINING, UPLOADED, SIGNED, BETWEEN)],
}


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    made = stand_up_killable(tmp_path_factory.mktemp("kills"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(hospitals: Killable) -> str:
    """Hash of the state that the plan ends with when nothing happens."""
    return final_state(hospitals, hospitals.submit("quiet"))


def final_state(hospitals: Killable, run: str) -> str:
    rounds = hospitals.finish(run)
    assert [(one["round"], one["institutions"]) for one in rounds] == [(number, 4) for number in range(3)], hospitals.log(run)
    return str(rounds[-1]["state_sha256"])


@pytest.mark.parametrize("whom", KILLS)
def test_killed_at_several_stages_a_run_ends_with_the_same_model(hospitals: Killable, undisturbed: str, whom: str) -> None:
    run = hospitals.submit("quiet")
    for stage, kind, number in KILLS[whom]:
        hospitals.wait_for_line(run, stage)
        hospitals.kill(kind, "serve" if number is None else hospitals.names[number])
    assert final_state(hospitals, run) == undisturbed, hospitals.log(run)
