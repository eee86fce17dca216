"""The Flower apps over prepared folders: what `flwr run` starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from client.client_app import FolderNodes, app, make_client_app
from client.errors import SettingsError
from client.institution import Membership, read_membership, write_membership
from client.node import Node
from client.settings import InstitutionSettings, write_settings
from coordinator.exchange import InProcessGrid
from coordinator.home import open_home, operator_identity, write_home
from coordinator.registry.registry import Registry
from coordinator.registry.states import RunState
from coordinator.server_app import app as server_app
from model.layout import Adaptation, AdapterConfig
from protocols.errors import Refusal
from protocols.identity import Identity
from protocols.roster import Roster, RosterEntry
from protocols.wire import Parcel, to_record
from tests.federation.federation import CONFIG, NAMES, FormulaWork, _now, make_plan


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A coordinator's folder and four institutions' folders."""
    plan, operator = make_plan(), operator_identity(tmp_path, lambda size: b"o" * size)
    identities = [Identity(name, name[0].encode() * 32) for name in NAMES]
    roster = Roster(tuple(RosterEntry(identity.name, identity.public_key) for identity in identities))
    write_home(tmp_path, plan, CONFIG, roster)
    for identity in identities:
        folder = tmp_path / "institutions" / identity.name
        content = {"records": {"source": "records.jsonl", "split": "split"}}
        folder.mkdir(parents=True)
        write_settings(folder / "institution.toml", InstitutionSettings.model_validate(content))
        write_membership(folder, Membership(identity.name, roster, operator.public_key))
        identity.save(folder / "identity.key")
    return tmp_path


def context(prepared: Path, number: int) -> Context:
    config = {"home": str(prepared), "institutions": str(prepared / "institutions")}
    return Context(run_id=1, node_id=number, node_config={"partition-id": number}, state=RecordDict(), run_config=config)


def test_server_app_runs_the_prepared_plan_over_nodes_of_prepared_folders(prepared: Path) -> None:
    nodes, plan = FolderNodes(), make_plan()
    adaptation = Adaptation(CONFIG, AdapterConfig.from_fields(plan.adapter_fields), plan.seed)

    def node(of: Context) -> Node:
        opened = nodes(of)
        work = FormulaWork(opened.name, plan, adaptation)
        return replace(opened, open_work=lambda _: work)

    grid = InProcessGrid(dict.fromkeys(range(4), make_client_app(node)), {number: context(prepared, number) for number in range(4)})
    server_app(grid=grid, context=context(prepared, 0))
    registry = Registry.open(str(prepared / "registry.db"), _now)
    (run,) = registry.runs()
    assert run.state is RunState.FINISHED and [row.institutions for row in registry.rounds(run.run)] == [4, 4, 4]
    registry.close()
    for number in range(4):
        nodes(context(prepared, number)).ledger.close()


def test_home_and_membership_are_read_as_written(prepared: Path) -> None:
    home, membership = open_home(prepared), read_membership(prepared / "institutions" / "bea")
    assert home.plan == make_plan() and replace(home.config, extra={}) == CONFIG and home.roster == membership.roster
    assert membership.name == "bea" and membership.coordinator_key == home.identity.public_key


def test_more_nodes_than_institutions_is_one_sentence(prepared: Path) -> None:
    with pytest.raises(SettingsError, match="holds 4 institutions"):
        FolderNodes()(context(prepared, 4))


@pytest.mark.parametrize(("deployed", "expected"), [(True, None), (False, b"known")])
def test_rounding_seed_of_the_run_configuration_is_for_simulation_alone(prepared: Path, deployed: bool, expected: bytes | None) -> None:
    simulated = context(prepared, 0)
    config = {"institution": str(prepared / "institutions" / "ada")} if deployed else simulated.node_config
    run_config = {**simulated.run_config, "rounding-seed": "known"}
    node = FolderNodes()(Context(run_id=1, node_id=0, node_config=config, state=RecordDict(), run_config=run_config))
    assert node.name == "ada" and node.rounding_seed == expected
    node.ledger.close()


def test_text_of_a_node_that_cannot_be_opened_does_not_leave_it(prepared: Path, caplog: pytest.LogCaptureFixture) -> None:
    message = InProcessGrid({}, {}).create_message(to_record(Parcel(b"")), "query.hello", 4, "")
    with pytest.raises(Refusal) as raised:
        make_client_app(FolderNodes())(message, context(prepared, 4))
    assert str(prepared) not in str(raised.value) and "SettingsError" in str(raised.value)
    assert "holds 4 institutions" in caplog.text


def test_client_app_answers_every_message_type() -> None:
    assert app is not None and {"train.sum", "evaluate.sum", "query.hello"} <= set(app._registered_funcs)
