"""What a network says is compared up to the token that ends the record's own target."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from client.dataset import build_dataset
from client.evaluation import exact_match
from client.records import Record
from model.bases import bundled_base
from model.text.tokenizer import END, PADDING, load_tokenizer
from protocols.plan import RecordTemplates
from tests.model.configurations import random_network


def test_an_answer_ends_where_the_chat_template_ends_a_turn_though_it_is_not_the_end_token(tmp_path: Path) -> None:
    content = json.loads((bundled_base("tiny") / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"][0]["special"] = False  # so that decoding does not leave it out
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    template = (
        f"{{% for m in messages %}}{{{{ m.role }}}}:{{{{ m.content }}}}{END}{{% endfor %}}{{{{ 'assistant:' if add_generation_prompt }}}}"
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": PADDING, "chat_template": template}))
    tokenizer = load_tokenizer(tmp_path)
    silent = random_network(vocab_size=tokenizer.vocab_size)
    with torch.no_grad():
        silent.model.norm.weight.zero_()  # all logits are equal, and the first token, END, is taken
    chats = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": said}] for said in (" ", "b")]
    records = [Record({"chat": json.dumps(chat)}, "line 1") for chat in chats]
    sums = exact_match(silent, build_dataset(records, RecordTemplates(messages="chat"), tokenizer).examples, tokenizer)
    assert (sums.numerator, sums.denominator) == (1.0, 2)
