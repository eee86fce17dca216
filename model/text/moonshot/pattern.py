"""The pattern that splits a text before byte-pair encoding, and whether a checkpoint's own code states the same one."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from model.errors import TokenizerError

_WORD = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_BEFORE, _CONTRACTION = r"[^\r\n\p{L}\p{N}]?", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    [
        r"[\p{Han}]+",
        f"{_BEFORE}{_WORD}*{_LOWER}+{_CONTRACTION}",
        f"{_BEFORE}{_WORD}+{_LOWER}*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
RESERVED = 256  # ids kept for special tokens after the ranks
_CLASS = "TikTokenTokenizer"
_STATED = {"pat_str": PATTERN, "num_reserved_special_tokens": RESERVED}


def check_pattern(directory: Path) -> None:
    """Reads the syntax of `tokenization_*.py`, and runs none of it.

    Raises:
        TokenizerError: the pattern or the number of reserved tokens stated there is another, or cannot be read from
            the syntax; or there is no such file, and `tokenizer_config.json` does not name the class either.
    """
    sources = sorted(directory.glob("tokenization_*.py"))
    for path in sources:
        _check_source(path)
    if not sources and _named_class(directory / "tokenizer_config.json") != _CLASS:
        raise TokenizerError(f"{directory} has neither a tokenization_*.py nor names {_CLASS} in tokenizer_config.json: fetch it again")


def _check_source(path: Path) -> None:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise TokenizerError(f"{path} is not Python, so its pattern cannot be compared: fetch it again") from None
    stated = [(name, value) for node in ast.walk(tree) for name, value in _assigned(node) if name in _STATED]
    if "pat_str" not in dict(stated):
        raise TokenizerError(f"{path} states no pat_str: only the pattern of Moonlight and Kimi is known here")
    for name, value in stated:
        if _constant(value) != _STATED[name]:
            raise TokenizerError(f"{path}, line {value.lineno}: {name} is not that of Moonlight and Kimi, the one known here")


def _assigned(node: ast.AST) -> list[tuple[str, ast.expr | ast.AugAssign]]:
    """Names of the variables or attributes that a statement binds, with what it binds them to."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [(_name(target), value) for target in targets]
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            return [(_name(target), value)]
        case ast.AugAssign(target=target):
            return [(_name(target), node)]
    return []


def _name(target: ast.expr) -> str:
    return target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""


def _constant(node: ast.AST) -> Any:
    """The value of a literal, or of literals that a literal joins; None for anything else."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"), args=[ast.List(elts=parts)], keywords=[]):
            texts = [_constant(part) for part in parts]
            return glue.join(texts) if all(isinstance(text, str) for text in texts) else None
    return None


def _named_class(path: Path) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content.get("tokenizer_class") if isinstance(content, dict) else None
