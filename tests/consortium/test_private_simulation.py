"""Private simulations: report, summary, model card, ledgers and commands tell the whole promise or none."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from client.cli.ledger import app as ledger_app
from consortium.cli.plan import plan as plan_app
from consortium.simulation import simulate
from consortium.summary import print_summary
from coordinator.registry.registry import Registry
from coordinator.verify import verify_registry
from tests.consortium.small_plan import TEMPLATES, small_records, write_small

EVALUATION = 'metric = "accuracy"\nchoices = [" red", " green", " blue"]'
LOCAL = '\n[privacy]\nepsilon = 4.0\nmechanism = "local"\n[personalisation]\ntune_steps = 2\n'
DISTRIBUTED = '\n[privacy]\nepsilon = 8.0\nmechanism = "distributed"\nnoise_multiplier = 2.0\nunit = "group"\n'
FIVE = ("epsilon", "delta", "unit", "adversary", "mechanism")


def written(folder: Path, privacy: str, **options: Any) -> Path:
    """Two notes of a site make a patient."""
    rows = [row | {"patient": f"{row['site']} {row['split']} {number // 2}"} for number, row in enumerate(small_records())]
    path = write_small(folder, rows, records=f'{TEMPLATES}\ntoo_long = "drop"', evaluation=EVALUATION, more=privacy, **options)
    text = path.read_text().replace("institutions = 3", 'institutions = 3\ngroup = "patient"')
    path.write_text(text.replace("batch_size = 2", 'batch_size = 2\nlabel_prior = "corrected"'))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("privacy", [LOCAL, DISTRIBUTED], ids=["local", "distributed"])
def test_every_page_tells_the_whole_promise(tmp_path: Path, privacy: str) -> None:
    report = simulate(written(tmp_path, privacy), tmp_path / "out", baselines=False)
    found = report["privacy"]
    for one in found["institutions"].values():
        assert 0 < one["epsilon_spent"] <= found["epsilon"] and one["label_noise"] > 1
    for sums in found["noise_of_sums"] or []:
        assert sums["added_variance"] == pytest.approx(1.5 * sums["guaranteed_variance"])  # three shares where two are counted on
    assert [one["loss"] for one in report["rounds"]] == [None, None]
    told = io.StringIO()
    print_summary(report, Console(file=told, width=1000))
    card = (Path(report["model"]) / "README.md").read_text()
    for page in (told.getvalue(), card):
        assert all(str(found[name]) in page or f"{name} {found[name]:g}" in page for name in FIVE[:2]) and found["sentence"] in page
        assert all(word in page for word in ("epsilon", "delta", "unit: ", "adversary: ", "mechanism: "))
    _check_ledger(tmp_path / "out" / "institutions" / "north", found)
    _check_registry(tmp_path / "out")
    for tuned in (tmp_path / "out" / "institutions").glob("*/models/*/1/README.md"):
        assert "tuned without noise" in tuned.read_text()
    assert (report["personalised"] is not None) == (privacy is LOCAL)


def _check_ledger(institution: Path, found: dict[str, Any]) -> None:
    answer = CliRunner().invoke(ledger_app, ["--institution", str(institution), "--json"])
    spent = json.loads(answer.stdout)["privacy"]
    assert spent["epsilon_spent"] == pytest.approx(found["institutions"]["north"]["epsilon_spent"], rel=0.01)
    assert {one["state"] for one in spent["charges"]} == {"spent"} and {one["unit"] for one in spent["charges"]} == {found["unit"]}
    shown = CliRunner().invoke(ledger_app, ["--institution", str(institution)]).stdout
    assert "Epsilon spent over all runs" in shown and "at delta 1e-05" in shown


def _check_registry(out: Path) -> None:
    registry = Registry.open(str(out / "registry.db"), lambda: datetime.now(UTC), read_only=True)
    audit = verify_registry(registry, out / "models")
    registry.close()
    assert audit.ok and any("was submitted as differentially private with epsilon" in line for line in audit.lines())


def test_without_privacy_nothing_is_called_private(tmp_path: Path) -> None:
    report = simulate(write_small(tmp_path, rounds=1), tmp_path / "out", baselines=False)
    told = io.StringIO()
    print_summary(report, Console(file=told, width=1000))
    assert report["privacy"] is None and "No noise was added" in told.getvalue() and "differentially" not in told.getvalue()


@pytest.mark.slow
def test_plan_check_says_which_noise_each_institution_needs(tmp_path: Path) -> None:
    answer = CliRunner().invoke(plan_app, ["check", str(written(tmp_path, DISTRIBUTED))])
    assert "noise: north with 4 units needs a noise multiplier of" in answer.stdout, answer.output
    assert "training is differentially private with epsilon 8" in answer.stdout and "losses" not in answer.stdout
