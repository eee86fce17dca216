"""`consortium model chat` answers each line, keeps the conversation, and ends a turn where the template does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from model.bases import bundled_base
from model.checkpoint.loading import load_checkpoint
from model.checkpoint.saving import save_checkpoint
from model.cli import app
from model.errors import GenerationError, TokenizerError
from model.text.tokenizer import load_tokenizer
from tests.model.configurations import random_network

TURNS = "The lamp is green.\n\n  What is green?  \n/quit\nnever read\n"


def run(*arguments: str, given: str | bytes = TURNS) -> Result:
    return CliRunner().invoke(app, ["chat", *arguments, "--max-new-tokens", "6"], input=given)


def answers(*arguments: str, given: str = TURNS) -> list[str]:
    turns = json.loads(run(*arguments, "--json", given=given).stdout)["turns"]
    return [turn["content"] for turn in turns if turn["role"] == "assistant"]


def test_every_line_is_answered_until_it_says_quit() -> None:
    document = json.loads(run("tiny", "--json", "--system", "Be brief.").stdout)
    assert [turn["role"] for turn in document["turns"]] == ["system", "user", "assistant", "user", "assistant"]
    assert [turn["content"] for turn in document["turns"][:4:2]] == ["Be brief.", document["turns"][2]["content"]]
    assert document["turns"][3]["content"] == "What is green?"
    assert run("tiny", "--system", "Be brief.").stdout.split("\n")[:-1] == [turn["content"] for turn in document["turns"][2::2]]


def test_the_plain_form_is_what_generate_continues() -> None:
    done = CliRunner().invoke(app, ["generate", "tiny", "--prompt", "User: Hi\n\nAssistant:", "--max-new-tokens", "6", "--json"])
    assert answers("tiny", given="Hi") == [json.loads(done.stdout)["text"].strip()]


def test_drawing_follows_the_seed() -> None:
    drawn = [answers("tiny", "--temperature", "2", "--top-p", "0.9", "--seed", seed) for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_nothing_asked_is_nothing_answered() -> None:
    assert json.loads(run("tiny", "--json", given="").stdout) == {"turns": []}


def test_bytes_that_are_no_text_are_asked_about_all_the_same() -> None:
    assert run("tiny", given=b"a\xffb\n").exit_code == 0


@pytest.mark.parametrize("arguments", [("--top-p", "0"), ("--top-p", "nan"), ("--temperature", "nan"), ("--temperature", "1e-40")])
def test_what_cannot_be_drawn_from_is_refused(arguments: tuple[str, str]) -> None:
    assert isinstance(run("tiny", *arguments).exception, GenerationError)


def test_a_conversation_longer_than_the_context_is_refused() -> None:
    assert "the model reads 2048" in str(run("tiny", given="7" * 2048).exception)


def checkpoint(folder: Path, template: str) -> Path:
    """A random network of the bundled base's tokenizer, with a template of its own."""
    tokenizer = load_tokenizer(bundled_base("tiny"))
    save_checkpoint(random_network(vocab_size=tokenizer.vocab_size), folder)
    shutil.copyfile(bundled_base("tiny") / "tokenizer.json", folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>", "chat_template": template}))
    return folder


def test_the_checkpoint_s_template_decides_what_is_read(tmp_path: Path) -> None:
    turn = "{{ m.role }}: {{ m.content }}{{ eos_token }}"
    folder = checkpoint(tmp_path / "model", f"{{% for m in messages %}}{turn}{{% endfor %}}{{{{ 'friend:' if add_generation_prompt }}}}")
    net, tokenizer = load_checkpoint(folder), load_tokenizer(folder)
    prompt = tokenizer.encode_pieces([[("user: Hi<|end|>friend:", True)]])
    expected = net.generate(torch.tensor(prompt), 6)[0, len(prompt[0]) :].tolist()
    assert tokenizer.eos_token_id not in expected
    assert answers(str(folder), given="Hi") == [tokenizer.decode(expected).strip()]


def test_a_template_that_cannot_be_used_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    result = run(str(checkpoint(tmp_path / "model", "{{ raise_exception('no chat model') }}")))
    assert isinstance(result.exception, TokenizerError) and "no chat model" in str(result.exception) and result.stdout == ""
