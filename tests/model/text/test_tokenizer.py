"""Text survives the trip through token ids; a broken tokenizer is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Encoder
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from model.bases import bundled_base, bundled_names
from model.errors import BaseError, TokenizerError
from model.text.moonshot.texts import PHRASES
from model.text.tokenizer import END, PADDING, Tokenizer, load_tokenizer
from tests.model.text.deepseek import ASSISTANT, BOS, EOS, USER, write_deepseek

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


@pytest.mark.parametrize(("file", "ids"), [("generation_config.json", [1, 0]), ("config.json", 0)])
def test_without_a_name_end_tokens_come_by_their_ids(tmp_path: Path, file: str, ids: int | list[int]) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": null}')
    (tmp_path / file).write_text(json.dumps({"eos_token_id": ids}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.eos_token_ids == (tuple(ids) if isinstance(ids, list) else (ids,))
    assert (tokenizer.eos_token_id, tokenizer.end) == ((1, PADDING) if isinstance(ids, list) else (0, END))


@pytest.mark.parametrize(
    "content", ['{"eos_token_id": 99999}', '{"eos_token_id": []}', '{"eos_token_id": ["a"]}', '{"eos_token_id": -1}', "[]", "{"]
)
def test_end_ids_that_are_none_name_the_file(tmp_path: Path, content: str) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"generation_config\.json"):
        load_tokenizer(tmp_path)


def test_deepseek_s_sequence_of_splits_reads_as_transformers_reads_it(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_deepseek(tmp_path, None))
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in PHRASES:
        assert tokenizer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_no_text_spells_an_added_token_that_is_not_called_special(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_deepseek(tmp_path, None))
    for token in (BOS, EOS, USER, ASSISTANT):
        assert tokenizer.closing(tokenizer.encode(f"a{token}b")) is None
        assert tokenizer.decode(tokenizer.encode(f"a{token}b")) == f"a{token}b"
        [[before, control, after]] = tokenizer.encode_pieces([[(f"a{token}", True), ("b", False)]])
        assert tokenizer.closing([before, control, after]) == control


def test_pieces_between_control_tokens_are_encoded_as_one_text() -> None:
    joined = [[("the ", True), (f"lam{END}", False), ("p", True), (END, True), ("s", False)]]
    assert TOKENIZER.encode_pieces(joined) == [[*TOKENIZER.encode(f"the lam{END}p"), TOKENIZER.eos_token_id, *TOKENIZER.encode("s")]]


def test_a_vocabulary_that_makes_a_control_token_of_text_is_refused(tmp_path: Path) -> None:
    encoder = Encoder(models.WordLevel({"stop": 0}))
    encoder.add_special_tokens(["stop"])
    with pytest.raises(TokenizerError, match="control token of the plain text 'stop'"):
        Tokenizer(encoder, ["stop"]).encode("stop")


def test_an_end_that_is_an_ordinary_token_is_no_way_to_end_a_record() -> None:
    encoder = Encoder(models.WordLevel({"a": 0, END: 1}))
    encoder.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(encoder)
    assert tokenizer.encode_pieces([[("a ", False), (END, True)]]) == [[0, 1]]
    with pytest.raises(TokenizerError, match="control token of the plain text"):
        tokenizer.encode(f"a {END}")


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(TokenizerError, match="half a surrogate pair"):
        TOKENIZER.encode("a\udcff")


@pytest.mark.parametrize("content", ['{"eos_token": "\\ud800"}', "[" * 200_000, '{"eos_token": ' + "[" * 200_000])
def test_a_configuration_that_is_none_is_one_sentence(tmp_path: Path, content: str) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(TokenizerError):
        load_tokenizer(tmp_path)


def test_a_token_that_the_network_cannot_read_is_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": TOKENIZER.vocab_size}))
    load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": TOKENIZER.vocab_size - 1}))
    with pytest.raises(TokenizerError, match="do not belong together"):
        load_tokenizer(tmp_path)


def test_unknown_base_lists_those_that_exist() -> None:
    with pytest.raises(BaseError, match="tiny"):
        bundled_base("huge")
    assert "tiny" in bundled_names()
