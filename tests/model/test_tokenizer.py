"""Text survives the trip through token ids; a broken tokenizer is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bases import bundled_base, bundled_names
from model.errors import BaseError, TokenizerError
from model.tokenizer import END, load_tokenizer

TOKENIZER = load_tokenizer(bundled_base("tiny"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_decodes_to_itself(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_every_digit_is_a_token_of_its_own() -> None:
    assert len(TOKENIZER.encode("7041")) == 4


def test_encoding_adds_no_end_and_decoding_drops_it() -> None:
    ids = TOKENIZER.encode("a lamp")
    assert TOKENIZER.eos_token_id not in ids
    assert TOKENIZER.decode([*ids, TOKENIZER.eos_token_id]) == "a lamp"


def test_a_record_that_spells_the_end_token_does_not_end() -> None:
    ids = TOKENIZER.encode(f"before {END} after")
    assert TOKENIZER.eos_token_id not in ids
    assert TOKENIZER.decode(ids) == f"before {END} after"


def test_a_batch_equals_its_texts_one_by_one() -> None:
    texts = ["one", "", "Two lamps, 3 doors."]
    assert TOKENIZER.encode_all(texts) == [TOKENIZER.encode(text) for text in texts]


def test_saved_tokenizer_reads_back_equal(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path)
    assert again.encode("the same words") == TOKENIZER.encode("the same words")
    assert again.vocab_size == TOKENIZER.vocab_size


def test_missing_tokenizer_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_unreadable_tokenizer_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json cannot be read"):
        load_tokenizer(tmp_path)


def test_end_token_comes_from_the_configuration(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": END}}))
    assert load_tokenizer(tmp_path).eos_token_id == TOKENIZER.eos_token_id
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</absent>"}))
    with pytest.raises(TokenizerError, match="</absent>"):
        load_tokenizer(tmp_path)


def test_unknown_base_lists_those_that_exist() -> None:
    with pytest.raises(BaseError, match="tiny"):
        bundled_base("huge")
    assert "tiny" in bundled_names()
