"""A directory as Moonlight's is published, with a tokenizer trained on this repository's pages and strings of many scripts."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder

from model.text.moonshot.conversion import byte_alphabet
from model.text.moonshot.pattern import PATTERN
from model.text.moonshot.texts import PHRASES

PAGES = sorted((Path(__file__).parents[3] / "docs").rglob("*.md"))
TEMPLATE = (
    "{%- for message in messages -%}{%- if loop.first and messages[0]['role'] != 'system' -%}"
    "<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>{%- endif -%}"
    "{%- if message['role'] == 'system' -%}<|im_system|>{%- endif -%}"
    "{%- if message['role'] == 'user' -%}<|im_user|>{%- endif -%}"
    "{%- if message['role'] == 'assistant' -%}<|im_assistant|>{%- endif -%}"
    "{{ message['role'] }}<|im_middle|>{{message['content']}}<|im_end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}"
)
# The form in which the checkpoint's code states what is read of it.
CODE = '''"""Leaves a file where it is run."""
import base64, pathlib

pathlib.Path(__file__).with_name("it-ran").touch()


class TikTokenTokenizer(Base):
    num_reserved_special_tokens = 256
    pat_str = "|".join(
        [
            r"""[\\p{Han}]+""",
            r"""[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
            r"""\\p{N}{1,3}""",
            r""" ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*""",
            r"""\\s*[\\r\\n]+""",
            r"""\\s+(?!\\S)""",
            r"""\\s+""",
        ]
    )
'''
NAMES = ("[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|start_header_id|>", "<|end_header_id|>", "<|reserved|>")
LATER = {9: "[EOT]", 10: "<|im_system|>", 17: "<|im_middle|>", 254: "[UNK]", 255: "[PAD]"}


def train_ranks(size: int = 3000) -> list[bytes]:
    """Tokens in the order of ranks: the bytes, what training merges, and pieces of text that no merge leads to."""
    encoder = Encoder(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"), byte_level])
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=byte_level.alphabet(), show_progress=False)
    encoder.train_from_iterator([*(page.read_text(encoding="utf-8") for page in PAGES), *PHRASES * 3], trainer)
    number = {char: byte for byte, char in enumerate(byte_alphabet())}
    trained = [bytes(number[char] for char in token) for token, _ in sorted(encoder.get_vocab().items(), key=lambda item: item[1])]
    whole = [word.encode() for word in (" unmergeable", "Qwzxq", "漢字混用", "🏴󠁧󠁢󠁥󠁮󠁧󠁿") if word.encode() not in trained]
    return [bytes([byte]) for byte in range(256)] + [token for token in trained if len(token) > 1] + whole


def write_moonlight(directory: Path, ranks: list[bytes]) -> Path:
    """tiktoken.model, tokenizer_config.json and the code beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)]
    (directory / "tiktoken.model").write_text("".join(lines))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    names = dict(enumerate(NAMES)) | LATER
    config = {
        "added_tokens_decoder": {str(len(ranks) + at): {"content": name, **flags} for at, name in names.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_moonshot.TikTokenTokenizer", None]},
        "bos_token": "[BOS]",
        "chat_template": TEMPLATE,
        "eos_token": "[EOS]",
        "pad_token": "[PAD]",
        "tokenizer_class": "TikTokenTokenizer",
        "unk_token": "[UNK]",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (directory / "tokenization_moonshot.py").write_text(CODE)
    return directory
