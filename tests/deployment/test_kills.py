"""`kill -9` of every process of a deployment, at several stages: the run goes on by itself, to the same bits where nobody was left out.

One deployment serves all tests. The plan wants all four institutions in every sum, so that a run which is disturbed waits for whom it
lost, and ends with the model of one that was not.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Context, Message

from client.connection import load_connection
from client.flower_node import serve_tasks
from client.institution import read_membership
from client.running import runtime_secret
from protocols.bundle import installed_bundle
from protocols.identity import open_envelope_of
from protocols.wire import from_record, to_record
from tests.deployment.killable import Killable, stand_up_killable
from tests.deployment.soak import soak

pytestmark = pytest.mark.slow

TRAINING = r"round 0 is over"  # the next that institutions do is to train
TRAINING_SECONDS = 0.7  # until they are at it
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
        time.sleep(TRAINING_SECONDS if stage == TRAINING else 0)
        hospitals.kill(kind, "serve" if number is None else hospitals.names[number])
    assert final_state(hospitals, run) == undisturbed, hospitals.log(run)


def test_a_node_that_answers_after_the_deadline_is_missing_and_returns(hospitals: Killable) -> None:
    late = hospitals.names[0]
    run = hospitals.submit("late", seed=1, quorum=3, deadline="30s")
    hospitals.wait_for_line(run, TRAINING)
    node = hospitals.pid("node", late)
    os.kill(node, signal.SIGSTOP)
    try:
        hospitals.wait_for_line(run, r"round 1, update sum.* 3 answered train.sum")
    finally:
        os.kill(node, signal.SIGCONT)
    rounds = hospitals.finish(run)
    assert [one["missing"] for one in rounds] == [[], [late], []], hospitals.log(run)
    assert "it did not answer in time" in str(rounds[1]["absences"][late])


def test_without_a_quorum_a_run_waits_and_says_for_whom(hospitals: Killable, undisturbed: str) -> None:
    gone = hospitals.names[3]
    run = hospitals.submit("quiet")
    hospitals.wait_for_line(run, TRAINING)
    hospitals.end(gone)
    hospitals.wait_for_line(run, rf"waits: .*3 institutions take part and the plan needs 4 \({gone}: ")
    waiting = hospitals.run_state(run)
    assert waiting["state"] == "paused" and gone in waiting["reason"]
    hospitals.take_part(gone)
    assert final_state(hospitals, run) == undisturbed


def test_a_run_is_stopped_while_an_institution_hangs_and_says_before_for_whom_it_waits(hospitals: Killable) -> None:
    hanging = hospitals.names[0]
    run = hospitals.submit("stopped", seed=4, deadline="20m")
    hospitals.wait_for_line(run, TRAINING)
    node = hospitals.pid("node", hanging)
    os.kill(node, signal.SIGSTOP)
    try:
        while (stage := hospitals.document("coordinator", "rounds", run, "--home", "operator", "--json")["stage"]) is None or (
            stage["waiting"] != [hanging] or stage["stage"] != "train.sum"
        ):
            time.sleep(0.5)
        stopped = hospitals.document("coordinator", "stop", run, "--home", "operator", "--json")
    finally:
        os.kill(node, signal.SIGCONT)
    assert stopped["state"] == "stopped" and "the operator" in stopped["reason"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            ("coordinator", "serve", "--home", "operator"),
            r"supervisor is driven by process \d+ on \S+; stop that process, .*\n",
        ),
        (("client", "node", "--institution", "{name}"), r".*another node answers from the ledger in .*; stop it first.*\n"),
        (("client", "run", "--institution", "{name}"), r"(?s).* runs for .* already; stop it first\n"),
    ],
    ids=["coordinator", "node", "client"],
)
def test_a_second_one_refuses_in_one_sentence(hospitals: Killable, line: tuple[str, ...], sentence: str) -> None:
    name = hospitals.names[0]
    hospitals.pid("node", name)
    command = hospitals.command(*(part.format(name=name) for part in line))
    done = subprocess.run(
        command, cwd=hospitals.folder, env=hospitals.environment, capture_output=True, text=True, timeout=120, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1 and re.fullmatch(sentence, said), said


def test_who_answers_in_a_nodes_stead_learns_nothing_and_is_not_heard(hospitals: Killable) -> None:
    """The second half of stolen_task_token: a thief that has the secret too can only keep an institution out."""
    robbed = hospitals.names[1]
    run = hospitals.submit("robbed", seed=2, quorum=3, deadline="60s")
    hospitals.wait_for_line(run, TRAINING)
    node = hospitals.pid("node", robbed)
    os.kill(node, signal.SIGSTOP)
    try:
        taken = steal(hospitals.folder / robbed)
        hospitals.wait_for_line(run, r"round 1, update sum.* 3 answered train.sum")
    finally:
        os.kill(node, signal.SIGCONT)
    rounds = hospitals.finish(run)
    assert rounds[1]["missing"] == [robbed] and rounds[2]["missing"] == []
    records = [json.loads(line)["note"] for line in (hospitals.folder / robbed / "records.jsonl").read_text().splitlines()]
    assert taken and not [note for note in records if note.encode() in taken]
    asked = open_envelope_of(taken, read_membership(hospitals.folder / robbed).coordinator_key)
    assert (asked.recipient, asked.round, asked.stage) == (robbed, 1, "update/train.sum")


def test_random_kills(hospitals: Killable) -> None:
    """A short soak; `python -m tests.deployment.soak` is the long one."""
    run = hospitals.submit("soak", seed=3, rounds=3, deadline="3m")
    figures = soak(hospitals, run, pauses=(10.0, 25.0), seed=0, seconds=600.0)
    assert figures["institutions"] == [4] and sum(figures["kills"].values()) > 1, figures


def steal(folder: Path) -> bytes:
    """Claims the next task of an institution's SuperNode and answers with the coordinator's own bytes; returns what was asked."""
    seen: list[bytes] = []

    def echo(message: Message, _: Context) -> Message:
        parcel = from_record(message.content)
        seen.append(parcel.envelope)
        return Message(to_record(parcel), reply_to=message)

    runtime, bundle = f"127.0.0.1:{load_connection(folder).runtime_port}", installed_bundle().sha256
    serve_tasks(runtime, runtime_secret(folder), echo, {bundle}, lambda: bool(seen), alive=folder / "thief", log=print)
    return seen[0]
