"""Moonshot's tiktoken.model becomes a tokenizer.json that gives tiktoken's tokens; nothing of the checkpoint is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from model.checkpoint.saving import save_checkpoint
from model.cli import app
from model.errors import TokenizerError
from model.text.moonshot.conversion import build_encoder, read_special_tokens
from model.text.moonshot.importing import compare, import_tokenizer
from model.text.moonshot.pattern import PATTERN, check_pattern
from model.text.moonshot.ranks import merge_pairs, read_ranks
from model.text.moonshot.texts import PHRASES
from model.text.tokenizer import Tokenizer, load_tokenizer
from tests.model.configurations import random_network
from tests.model.text.moonlight import CODE, train_ranks, write_moonlight

RANKS = train_ranks()
REFERENCE = tiktoken.Encoding("test", pat_str=PATTERN, mergeable_ranks={token: rank for rank, token in enumerate(RANKS)}, special_tokens={})


@pytest.fixture
def moonlight(tmp_path: Path) -> Path:
    return write_moonlight(tmp_path / "moonlight", RANKS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tokenizer as `import_tokenizer` writes and `load_tokenizer` reads it, without the comparison."""
    directory = write_moonlight(tmp_path_factory.mktemp("moonlight"), RANKS)
    ranks = read_ranks(directory / "tiktoken.model")
    encoder = build_encoder(ranks, read_special_tokens(directory / "tokenizer_config.json", len(ranks)))
    encoder.save(str(directory / "tokenizer.json"))
    return load_tokenizer(directory)


def lines(directory: Path) -> list[str]:
    return (directory / "tiktoken.model").read_text().splitlines()


@pytest.mark.slow
def test_an_import_is_compared_written_once_and_runs_no_code(tmp_path: Path) -> None:
    save_checkpoint(random_network(vocab_size=len(RANKS) + 256), tmp_path / "moonlight")
    moonlight = write_moonlight(tmp_path / "moonlight", RANKS)
    before = {path.name for path in moonlight.iterdir()}
    first = CliRunner().invoke(app, ["import", str(moonlight), "--json"])
    facts = json.loads(first.stdout)
    assert (facts["path"], facts["written"], facts["vocab_size"]) == (str(moonlight / "tokenizer.json"), True, len(RANKS) + 256)
    assert facts["texts"] > 140_000 and facts["tokens"] > 10 * facts["texts"]
    again = CliRunner().invoke(app, ["import", str(moonlight)])
    assert "was there already, and is equal" in again.stdout
    assert {path.name for path in moonlight.iterdir()} - before == {"tokenizer.json"}
    for command in (["info"], ["generate", "--prompt", "漢字 and"], ["chat", "--max-new-tokens", "4"]):
        done = CliRunner().invoke(app, [command[0], str(moonlight), *command[1:]], input="Hi\n")
        assert done.exit_code == 0 and done.stdout
    theirs, ours = PreTrainedTokenizerFast.from_pretrained(moonlight), load_tokenizer(moonlight)
    for text in PHRASES[:-1]:
        assert theirs(text)["input_ids"] == ours.encode(text) == REFERENCE.encode_ordinary(text)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_has_tiktoken_s_tokens_and_decodes_to_itself(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == REFERENCE.encode_ordinary(text)
    assert tokenizer.decode(ids) == text


@given(st.text("aA'sStTlLdD \n\r\t1漢é\u0301ſ", max_size=30))
def test_contractions_numbers_and_spaces_are_split_alike(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text) == REFERENCE.encode_ordinary(text)


def test_a_piece_that_is_a_token_stays_whole_though_no_merge_leads_to_it(tokenizer: Tokenizer) -> None:
    token = b" unmergeable"
    assert token not in {left + right for left, right in merge_pairs({token: rank for rank, token in enumerate(RANKS)})}
    assert tokenizer.encode("an unmergeable") == [*tokenizer.encode("an"), RANKS.index(token)]
    assert len(tokenizer.encode("an unmergeables")) > 2


def test_merges_are_recovered_from_ranks() -> None:
    ranks = {token: rank for rank, token in enumerate([b"a", b"b", b"c", b"bc", b"ab", b"abc", b"cab", b"ccab"])}
    assert list(merge_pairs(ranks)) == [(b"b", b"c"), (b"a", b"b"), (b"a", b"bc"), (b"c", b"ab"), (b"c", b"cab")]


def test_special_tokens_have_their_ids_and_are_skipped_in_decoding(tokenizer: Tokenizer) -> None:
    first = len(RANKS)
    assert tokenizer.eos_token_ids == (first + 1,)
    named, reserved = "<|im_end|>", f"<|reserved_token_{first + 8}|>"
    assert tokenizer.encode_pieces([[(f"a{named}{reserved}", True)]]) == [[*tokenizer.encode("a"), first + 2, first + 8]]
    assert tokenizer.decode([*tokenizer.encode("a"), first + 2]) == "a"
    assert tokenizer.decode(tokenizer.encode(named)) == named and min(tokenizer.encode(named)) < first


@pytest.mark.parametrize("change", [(r"\p{N}{1,3}", r"\p{N}{1,2}"), (r"|\s+(?!\S)", "")])
def test_a_difference_names_the_text(tokenizer: Tokenizer, change: tuple[str, str]) -> None:
    ranks = {token: rank for rank, token in enumerate(RANKS)}
    other = tiktoken.Encoding("other", pat_str=PATTERN.replace(*change), mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(TokenizerError, match=r"would not encode '.+' as tiktoken does, so nothing is written"):
        compare(tokenizer, other, PHRASES)


def test_another_tokenizer_is_left_alone(moonlight: Path) -> None:
    (moonlight / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="left as it is"):
        import_tokenizer(moonlight)
    assert (moonlight / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("line", "content", "sentence"),
    [
        (3, "Ag=", "line 3: holds 1 fields"),
        (3, "A*== 2", "line 3: the token is not base64"),
        (3, "Ag== two", "line 3: the rank is not a whole number"),
        (3, "Ag== -2", "line 3: the rank is not a whole number"),
        (3, "Ag== 1", "line 3: repeats the rank of line 2"),
        (3, "AQ== 2", "line 3: repeats the token of line 2"),
        (66, "Zm9vYmFy 65", "has no token for byte 0x41"),
    ],
)
def test_a_malformed_line_is_named(moonlight: Path, line: int, content: str, sentence: str) -> None:
    changed = lines(moonlight)
    changed[line - 1] = content
    (moonlight / "tiktoken.model").write_text("\n".join(changed))
    with pytest.raises(TokenizerError, match=sentence):
        import_tokenizer(moonlight)
    assert not (moonlight / "tokenizer.json").exists()


def test_a_gap_is_named_with_the_line_after_it(moonlight: Path) -> None:
    kept = lines(moonlight)
    del kept[299]
    (moonlight / "tiktoken.model").write_text("\n".join(kept))
    with pytest.raises(TokenizerError, match="line 300: rank 300 stands where 299 is missing"):
        import_tokenizer(moonlight)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (CODE.replace("{1,3}", "{1,2}"), "pat_str is not that of Moonlight"),
        (CODE.replace("tokens = 256", "tokens = 128"), "num_reserved_special_tokens is not that"),
        (CODE + '    pat_str += "|x"\n', "pat_str is not that"),
        (CODE + "\n    def __init__(self):\n        self.pat_str = base64.b64decode(b'Lg==').decode()\n", "pat_str is not that"),
        ("class TikTokenTokenizer: ...", "states no pat_str"),
        ("class TikTokenTokenizer(:", "is not Python"),
        ("x = '\0'", "is not Python"),
    ],
)
def test_another_pattern_is_refused_unrun(moonlight: Path, code: str, sentence: str) -> None:
    (moonlight / "tokenization_moonshot.py").write_text(code)
    with pytest.raises(TokenizerError, match=sentence):
        import_tokenizer(moonlight)
    assert not (moonlight / "it-ran").exists() and not (moonlight / "tokenizer.json").exists()


def test_without_code_the_configuration_has_to_name_the_class(moonlight: Path) -> None:
    (moonlight / "tokenization_moonshot.py").unlink()
    check_pattern(moonlight)
    (moonlight / "tokenizer_config.json").write_text('{"tokenizer_class": "Other"}')
    with pytest.raises(TokenizerError, match="neither a tokenization_"):
        check_pattern(moonlight)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ({"7": {"content": "x"}}, "id 7 is not one of the 256"),
        ({str(len(RANKS)): {"content": "x"}, str(len(RANKS) + 1): {"content": "x"}}, "one name to two ids"),
        ({str(len(RANKS)): {}}, "not a table of ids and tokens"),
        ([], "not a table of ids and tokens"),
        ({str(len(RANKS)): {"content": "A"}}, "which another token spells too"),
    ],
)
def test_malformed_special_tokens_are_named(moonlight: Path, tokens: object, sentence: str) -> None:
    (moonlight / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": tokens}))
    with pytest.raises(TokenizerError, match=sentence):
        import_tokenizer(moonlight)


def test_what_is_missing_is_named(tmp_path: Path, moonlight: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tiktoken\.model"):
        import_tokenizer(tmp_path)
    with pytest.raises(TokenizerError, match="`consortium model import` makes one"):
        load_tokenizer(moonlight)
    (moonlight / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json is missing"):
        import_tokenizer(moonlight)
