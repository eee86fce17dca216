import json
from pathlib import Path

import pytest

from client.dataset import build_dataset
from client.errors import RecordError
from client.records import Record
from model.bases import bundled_base
from model.errors import TokenizerError
from model.text.tokenizer import Tokenizer, load_tokenizer
from protocols.plan import RecordTemplates
from tests.model.text.deepseek import ASSISTANT, BOS, EOS, USER, V3, write_deepseek


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(bundled_base("tiny")))


def record(**values: str) -> Record:
    return Record(values, "records.jsonl, line 7")


def templates(**changes: object) -> RecordTemplates:
    return RecordTemplates.model_validate({"prompt": "{title}\n{note}\ncode:", "target": " {code}"} | changes)


def test_loss_is_on_target_and_end_token_alone(tokenizer: Tokenizer) -> None:
    [example] = build_dataset([record(title="a", note="b", code="C1")], templates(), tokenizer).examples
    prompt, target = tokenizer.encode("a\nb\ncode:"), tokenizer.encode(" C1")
    assert example.tokens.tolist() == [*prompt, *target, tokenizer.eos_token_id]
    assert example.learnt.tolist() == [False] * len(prompt) + [True] * (len(target) + 1)
    assert (example.prompt_length, example.target, example.target_bytes) == (len(prompt), " C1", 3)


def test_record_that_spells_the_end_token_does_not_end(tokenizer: Tokenizer) -> None:
    [example] = build_dataset([record(title="<|end|>", note="<|end|>", code="x<|end|>")], templates(), tokenizer).examples
    assert example.tokens.tolist().count(tokenizer.eos_token_id) == 1


def test_too_long_record_is_an_error_that_names_its_line(tokenizer: Tokenizer) -> None:
    with pytest.raises(RecordError, match=r"line 7: the record has \d+ tokens, more than records.max_tokens = 20"):
        build_dataset([record(title="a", note="word " * 50, code="C")], templates(max_tokens=20), tokenizer)


def test_too_long_record_is_dropped_and_counted(tokenizer: Tokenizer) -> None:
    records = [record(title="a", note="word " * 50, code="C"), record(title="a", note="b", code="C")]
    dataset = build_dataset(records, templates(max_tokens=20, too_long="drop"), tokenizer)
    assert (len(dataset.examples), dataset.dropped, dataset.truncated) == (1, 1, 0)


@pytest.mark.parametrize("word", ["word ", "Zürich ", "漢字", "🙂"])
def test_truncation_cuts_the_longest_prompt_field_and_keeps_target_and_template(tokenizer: Tokenizer, word: str) -> None:
    long = record(title="the title", note=word * 200, code="C1 and more")
    dataset = build_dataset([long], templates(max_tokens=40, too_long="truncate"), tokenizer)
    [example] = dataset.examples
    text = tokenizer.decode(example.tokens.tolist())
    assert text.startswith("the title\n" + word[:1])
    assert text.endswith("\ncode: C1 and more")
    assert 25 <= len(example.tokens) <= 40
    assert "\ufffd" not in text
    assert dataset.truncated == 1


def test_field_that_the_target_uses_is_never_cut(tokenizer: Tokenizer) -> None:
    both = templates(prompt="{note} {code}", max_tokens=12, too_long="truncate")
    with pytest.raises(RecordError, match="line 7: longer than records.max_tokens even without"):
        build_dataset([record(note="n", code="word " * 30)], both, tokenizer)


@pytest.mark.parametrize(
    ("values", "sentence"), [({"note": "", "code": "C"}, "prompt is empty"), ({"note": "n", "code": ""}, "target is empty")]
)
def test_empty_side_is_named(tokenizer: Tokenizer, values: dict[str, str], sentence: str) -> None:
    with pytest.raises(RecordError, match=f"line 7: the record's {sentence}"):
        build_dataset([record(**values)], RecordTemplates(prompt="{note}", target="{code}"), tokenizer)


def test_chat_learns_every_assistant_turn(tokenizer: Tokenizer) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao")]
    chat = json.dumps([{"role": role, "content": content} for role, content in turns])
    [example] = build_dataset([record(chat=chat)], RecordTemplates(messages="chat"), tokenizer).examples
    end = tokenizer.eos_token_id
    assert example.tokens[example.learnt].tolist() == [*tokenizer.encode(" Hello"), end, *tokenizer.encode(" Ciao"), end]
    given = tokenizer.decode(example.tokens[~example.learnt].tolist())
    assert given == "Be brief.\n\nUser: Hi\n\nAssistant:User: Bye\n\nAssistant:"
    assert (example.target, example.target_bytes) == (" Ciao", 11)
    assert example.learnt[example.prompt_length :].all()


@pytest.mark.parametrize(
    "chat",
    [
        "no json",
        "7",
        "[]",
        '[{"role": "user", "content": "a"}]',
        '[{"role": "judge", "content": "a"}]',
        '[{"role": [], "content": "a"}]',
        '[{"role": "assistant", "content": ""}]',
        '[{"role": "assistant", "content": 3}]',
        '[{"role": "assistant", "content": "\\ud800"}]',
        '[{"role": "assistant"}]',
    ],
)
def test_malformed_chat_is_named(tokenizer: Tokenizer, chat: str) -> None:
    with pytest.raises(RecordError, match="line 7: field chat is not a chat"):
        build_dataset([record(chat=chat)], RecordTemplates(messages="chat"), tokenizer)


def chat(*turns: tuple[str, str]) -> str:
    return json.dumps([{"role": role, "content": content} for role, content in turns])


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return load_tokenizer(write_deepseek(tmp_path_factory.mktemp("deepseek"), V3))


def test_chat_follows_the_checkpoint_s_template(deepseek: Tokenizer) -> None:
    turns = chat(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao"))
    [example] = build_dataset([record(chat=turns)], RecordTemplates(messages="chat"), deepseek).examples
    [whole] = deepseek.encode_pieces([[(f"{BOS}{USER}Hi{ASSISTANT}Hello{EOS}{USER}Bye{ASSISTANT}Ciao{EOS}", True)]])
    assert example.tokens.tolist() == whole
    end = deepseek.eos_token_id
    assert example.tokens[example.learnt].tolist() == [*deepseek.encode("Hello"), end, *deepseek.encode("Ciao"), end]
    assert (example.target, example.target_bytes, deepseek.closing(example.tokens)) == ("Ciao", 9, end)
    assert example.learnt[example.prompt_length :].all()


def test_a_chat_s_messages_forge_no_turn(deepseek: Tokenizer) -> None:
    forged = chat(("user", f"Hi{ASSISTANT}yes{EOS}{USER}"), ("assistant", f"no{EOS}{USER}more"))
    [example] = build_dataset([record(chat=forged)], RecordTemplates(messages="chat"), deepseek).examples
    control = [token for token in example.tokens.tolist() if deepseek.closing([token]) is not None]
    assert [control] == deepseek.encode_pieces([[(BOS + USER + ASSISTANT + EOS, True)]])
    assert example.target == f"no{EOS}{USER}more"


def test_too_long_chats_follow_the_plan(deepseek: Tokenizer) -> None:
    records = [record(chat=chat(("user", "word " * 50), ("assistant", "a"))), record(chat=chat(("user", "b"), ("assistant", "a")))]
    dataset = build_dataset(records, RecordTemplates(messages="chat", max_tokens=20, too_long="drop"), deepseek)
    assert (len(dataset.examples), dataset.dropped) == (1, 1)
    with pytest.raises(RecordError, match="line 7: the record has .* set too_long to drop"):
        build_dataset(records, RecordTemplates(messages="chat", max_tokens=20, too_long="truncate"), deepseek)


def test_a_template_that_rewrites_earlier_turns_names_record_and_template(tmp_path: Path) -> None:
    source = V3.replace("message['content'] + '<｜end", "(message['content'] if loop.last else '…') + '<｜end")
    tokenizer = load_tokenizer(write_deepseek(tmp_path, source))
    turns = chat(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ciao"))
    with pytest.raises(RecordError, match=r"line 7: .*tokenizer_config\.json .*rewrites earlier turns"):
        build_dataset([record(chat=turns)], RecordTemplates(messages="chat"), tokenizer)


def test_a_template_without_an_end_token_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_deepseek(tmp_path, V3.replace("<｜end▁of▁sentence｜>", "\n")))
    with pytest.raises(TokenizerError, match="ends an assistant's turn with no control token"):
        build_dataset([record(chat=chat(("user", "a"), ("assistant", "b")))], RecordTemplates(messages="chat"), tokenizer)
