"""A first plan for a file of records: which field is the text, which the answer, and which says whose record it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.sources import Row, read_rows
from client.template import is_field
from consortium.errors import SimulationError
from protocols.files import write_file

TEXT_NAMES = ("text", "note", "notes", "question", "prompt", "input", "raw", "description", "message")
LABEL_NAMES = ("label", "code", "category", "class", "intent", "target", "answer", "output", "norm")
SITE_NAMES = ("site", "hospital", "institution", "company", "bank", "school", "center", "centre", "branch", "owner")
CLOSED = 200  # more distinct answers than this are no list of choices
MIN_INSTITUTIONS, MAX_INSTITUTIONS = 3, 5

TEMPLATE = """\
# A plan for `consortium simulate {name}.toml`. Keys that are left out have the defaults of docs/plan.md.
name = {quoted_name}
base = "tiny"                  # the bundled base; or a directory with a DeepseekV3 checkpoint
rounds = 8

[records]                      # {{field}} is a field of the record; the loss is on the target only
prompt = {prompt}
target = {target}
max_tokens = 256
too_long = "truncate"          # the longest field of the prompt is cut, never the target

[trainable]
lora_rank = 16
lora_alpha = 32
targets = ["attention", "shared_experts", "dense_mlp", "lm_head", "embeddings"]
experts = "none"               # none | all | esft-token | esft-gate

[training]
local_steps = 20
batch_size = 16
learning_rate = 6e-3
label_prior = {label_prior}      # corrected: against institutions that see different answers

[evaluation]
metric = {metric}            # accuracy | exact_match | bits_per_byte
max_records = 400              # test records per institution

[simulation]                   # only `simulate` reads this table
source = {source}
partition = {partition}
institutions = {institutions}
"""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a file's fields seem to be; `site` is None where no field says whose a record is."""

    text: str
    label: str
    site: str | None
    sites: int
    closed: bool  # the answers are a short list


def write_plan(name: str, records: Path | None, folder: Path) -> Path:
    """Writes `folder`/NAME.toml and returns its path; never over another file.

    Raises:
        SimulationError: the name or the file cannot be used.
        RecordError: the records cannot be read.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise SimulationError(f"{name!r} cannot name a plan; use letters, digits, dot, dash and underscore")
    path = folder / f"{name}.toml"
    if path.exists():
        raise SimulationError(f"{path} exists already; take another name or move it away")
    fields = guess_fields(read_rows(str(records)), str(records)) if records else Fields("text", "label", "site", MIN_INSTITUTIONS, True)
    write_file(path, _filled(name, fields, str(records or "records.jsonl")).encode())
    return path


def guess_fields(rows: Sequence[Row], source: str) -> Fields:
    """Guesses by the fields' names first, then by their values.

    Raises:
        SimulationError: fewer than two fields can be used, or one that the plan needs is empty in a row.
    """
    values = _candidates(rows, source)
    site = _named(values, SITE_NAMES)
    rest = {field: found for field, found in values.items() if field != site} if len(values) > 2 else values
    text = _named(rest, TEXT_NAMES) or max(rest, key=lambda field: sum(map(len, rest[field])))
    answers = {field: found for field, found in rest.items() if field != text}
    label = _named(answers, LABEL_NAMES) or min(answers, key=lambda field: len(set(answers[field])))
    sites = len(set(values[site])) if site else 0
    usable = site if site not in (text, label) and sites >= MIN_INSTITUTIONS else None
    for field, use in ((label, "the answer"), (usable, "whose record it is")):
        if field is not None:
            _check_filled(rows, field, use)
    return Fields(text, label, usable, sites, len(set(answers[label])) <= min(CLOSED, len(rows) // 2))


def _candidates(rows: Sequence[Row], source: str) -> dict[str, list[str]]:
    """The fields that a plan may name and that most rows fill, with their values as text."""
    values = {field: [_text(row, field) for row in rows] for field in rows[0].values if field not in ("id", "split")}
    filled = {field: found for field, found in values.items() if 2 * sum(map(bool, found)) > len(rows)}
    usable = {field: found for field, found in filled.items() if is_field(field)}
    if len(usable) < 2:
        strange = next((field for field in filled if field not in usable), None)
        hint = "add them" if strange is None else f"rename {strange!r}, because a plan's fields hold no brackets, quotes or . ! :"
        raise SimulationError(f"{source}: two fields that most records fill are needed, a text and its answer; {hint}")
    return usable


def _check_filled(rows: Sequence[Row], field: str, use: str) -> None:
    for row in rows:
        if not _text(row, field):
            raise SimulationError(f"{row.place}: field {field}, taken for {use}, is empty; fill it, or take the row out")


def _text(row: Row, field: str) -> str:
    value = row.values.get(field)
    return "" if value is None else str(value).strip()


def _named(values: dict[str, list[str]], names: Sequence[str]) -> str | None:
    return next((field for name in names for field in values if field.lower() == name), None)


def _filled(name: str, fields: Fields, source: str) -> str:
    divided = f"{{ field = {json.dumps(fields.site)} }}" if fields.site else "{ uniform = true }"
    return TEMPLATE.format(
        name=name,
        quoted_name=json.dumps(name),
        prompt=json.dumps(f"{{{fields.text}}}\n{fields.label}:"),
        target=json.dumps(f" {{{fields.label}}}"),
        label_prior=json.dumps("corrected" if fields.closed else "none"),
        metric=json.dumps("accuracy" if fields.closed else "bits_per_byte"),
        source=json.dumps(source),
        partition=divided,
        institutions=min(fields.sites, MAX_INSTITUTIONS) if fields.site else MIN_INSTITUTIONS,
    )
