"""What the documentation and the examples say holds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consortium import simulate
from consortium.plan_reference import plan_reference, table_lines
from model.checkpoint.saving import save_checkpoint
from model.text.moonshot.pattern import RESERVED
from protocols.plan import Plan, load_plan
from protocols.policy import Policy
from tests.consortium.command_line import ROOT, consortium, environment
from tests.consortium.small_notes import write_csv, write_plan
from tests.model.configurations import random_network
from tests.model.text.moonlight import train_ranks, write_moonlight

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
QUICK = " --rounds 1 --no-baselines"
ADD_MTP = "consortium model add-mtp Moonlight-16B-A3B drafting --data texts"
SHORTER = {"consortium simulate triage.toml": QUICK, ADD_MTP: " --steps 2"}
AS_RUN = {"make demo": "consortium demo" + QUICK} | {command: command + more for command, more in SHORTER.items()}
ELSEWHERE = ("make", "flwr", "export")  # the Makefile is looked at below; tests/test_flower_app.py runs what is Flower's
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))


def _blocks(page: Path, *kinds: str) -> Iterator[str]:
    """Code blocks of these kinds."""
    for kind, block in re.findall(r"^```([a-z]*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        if kind in kinds:
            yield block


def _commands(page: Path) -> Iterator[str]:
    """Lines of code blocks that a shell would run."""
    for block in _blocks(page, "", "console", "sh", "bash"):
        yield from (line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines() if line.strip())


COMMANDS = {page: tuple(_commands(page)) for page in PAGES}
PROGRAMS = {page: tuple(_blocks(page, "python")) for page in PAGES}


def test_the_table_of_keys_is_the_one_that_the_plan_gives() -> None:
    assert (ROOT / "docs" / "plan.md").read_text(encoding="utf-8") == plan_reference()


def test_the_table_of_the_policys_keys_is_that_of_its_model() -> None:
    assert f"|---|---|---|\n{table_lines(Policy)}\n" in (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_valid_plan_for_simulate(path: Path) -> None:
    assert load_plan(path).simulation is not None


def test_every_command_of_every_page_is_run_or_looked_at_by_a_test() -> None:
    others = {
        page.name: [command for command in found if command.split()[0] not in ("consortium", *ELSEWHERE)]
        for page, found in COMMANDS.items()
    }
    assert not any(others.values()), others


def test_every_link_within_the_pages_leads_somewhere() -> None:
    for page in PAGES:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page


def test_every_link_to_a_section_leads_to_one() -> None:
    for page in PAGES:
        links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if link[1] not in _sections((page.parent / link[0]) if link[0] else page)] == [], page


def _sections(page: Path) -> list[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_file_of_the_network_that_its_page_names_exists() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / "docs" / "model.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert [name for name in named if not ((ROOT / "model" / name).exists() or (ROOT / name).exists())] == []


def test_make_has_every_target_that_the_pages_name() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = [command.split()[1] for found in COMMANDS.values() for command in found if command.startswith("make ")]
    assert named
    assert set(named) <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert re.search(r"^demo:.*\n\t\$\(BIN\)/python -P -m consortium demo$", makefile, re.MULTILINE), "AS_RUN runs another demo than make"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any("consortium " in one for one in COMMANDS[page])], ids=lambda page: page.name
)
def test_every_command_of_a_page_runs_in_order(tmp_path: Path, page: Path) -> None:
    _write_what_pages_start_from(tmp_path, " ".join(COMMANDS[page]))
    for command in COMMANDS[page]:
        name, *arguments = shlex.split(AS_RUN.get(command, command))
        if name == "consortium":
            done = consortium(tmp_path, *arguments, given="How are you?\n")
            assert done.returncode == 0 and done.stdout, f"{command}: {done.stderr}"


def _write_what_pages_start_from(folder: Path, commands: str) -> None:
    """A spreadsheet, a folder of text, a small checkpoint as Moonlight's is published, and a released version."""
    write_csv(folder / "my.csv")
    (folder / "texts").mkdir()
    (folder / "texts" / "page.txt").write_text((ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8"), encoding="utf-8")
    if "Moonlight" in commands:
        ranks = train_ranks(1000)
        save_checkpoint(random_network(vocab_size=len(ranks) + RESERVED), folder / "Moonlight-16B-A3B")
        write_moonlight(folder / "Moonlight-16B-A3B", ranks)
    if "RELEASE" in commands:
        (folder / "run").mkdir()
        report = simulate(write_plan(folder / "run"), folder / "run" / "out", baselines=False)
        Path(str(report["model"])).rename(folder / "RELEASE")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if PROGRAMS[page]], ids=lambda page: page.name)
def test_every_program_of_a_page_runs(tmp_path: Path, page: Path) -> None:
    for program in PROGRAMS[page]:
        call = [sys.executable, "-"]
        done = subprocess.run(call, input=program, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(tmp_path: Path, path: Path) -> None:
    plan = load_plan(path)
    assert plan.simulation is not None
    source = Path(os.path.normpath(path.parent / plan.simulation.source))
    if not source.is_file():
        pytest.skip(f"{source} is not here; the data sets of the examples are not part of the repository")
    report = simulate(_shortened(plan, source), tmp_path / "out", rounds=1, baselines=False)
    assert len(report["federated_own"]) == plan.simulation.institutions
    assert report["rounds"][0]["missing"] == []


def _shortened(plan: Plan, source: Path) -> Plan:
    """The example with few records, wherever its own are."""
    assert plan.simulation is not None
    simulation = plan.simulation.model_copy(update={"source": str(source), "max_records": 32})
    evaluation = plan.evaluation.model_copy(update={"max_records": 2})
    return plan.model_copy(update={"simulation": simulation, "evaluation": evaluation})
