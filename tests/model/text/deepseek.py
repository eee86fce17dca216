"""A tokenizer directory as DeepSeek's are published: byte-level BPE behind a sequence of splits, turns' tokens not called special."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder

from model.text.moonshot.texts import PHRASES

BOS, EOS, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
SPLITS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    (
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
)
V2 = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
V3 = (
    "{% set ns = namespace(is_tool=false, system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}"
    "{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{ '<｜User｜>' + message['content'] }}"
    "{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{%- if message.tool_calls %}{{ raise_exception('no tools') }}{%- endif %}"
    "{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt and not ns.is_tool %}{{ '<｜Assistant｜>' }}{% endif %}"
)


def write_deepseek(directory: Path, template: str | list[dict[str, str]] | None, size: int = 2000, **config: Any) -> Path:
    """tokenizer.json, trained on strings of many scripts, and tokenizer_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    encoder = Encoder(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS]
    encoder.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    encoder.decoder = decoders.ByteLevel()
    encoder.train_from_iterator(PHRASES, trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_level.alphabet(), show_progress=False))
    encoder.add_tokens([AddedToken(token, special=True, normalized=False) for token in (BOS, EOS)])
    encoder.add_tokens([AddedToken(token, special=False, normalized=False) for token in (USER, ASSISTANT)])
    encoder.save(str(directory / "tokenizer.json"))
    tokens = {name: {"__type": "AddedToken", "content": token} for name, token in (("bos_token", BOS), ("eos_token", EOS))}
    content = tokens | ({"chat_template": template} if template else {}) | config
    (directory / "tokenizer_config.json").write_text(json.dumps(content))
    return directory
