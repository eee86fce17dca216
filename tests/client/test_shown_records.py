"""Records on a terminal: as they are, and harmless to the terminal."""

from __future__ import annotations

from client.dataset import build_dataset
from client.records import Record
from client.shown_records import shown_records
from model.bases import bundled_base
from model.text.tokenizer import load_tokenizer
from tests.client.small_institution import small_plan


def test_three_records_are_shown_with_what_is_learnt() -> None:
    tokenizer = load_tokenizer(bundled_base("tiny"))
    records = [Record({"text": f"grass {n}\x1b[2J", "label": "green"}, f"line {n}") for n in range(5)]
    lines = shown_records(build_dataset(records, small_plan().records, tokenizer).examples, tokenizer)
    assert len(lines) == 7
    assert lines[2].startswith("what colour is grass 0\\x1b[2J? answer:⟦ green") and lines[2].endswith("⟧")
