"""The hash of a checkpoint: what is in it, however it is sharded or formatted. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from model.checkpoint.headers import read_headers
from model.config import ModelConfig, read_config

# Fields that came with DeepSeek-V2; a V3 checkpoint keeps the hash that it had before them.
_V3 = {"architecture": "DeepseekV3ForCausalLM", "scoring_func": "sigmoid", "topk_method": "noaux_tc"}


def checkpoint_sha256(directory: Path) -> str:
    """SHA-256 over the architecture and every tensor's name, type, shape and bytes, sorted by name; hexadecimal.

    Raises:
        CheckpointError, ConfigError: a file is missing, truncated or not a safetensors file.
    """
    digest = hashlib.sha256(b"consortium checkpoint v1\0" + _architecture(read_config(directory)))
    for name, tensor in sorted(read_headers(directory).items()):
        digest.update(json.dumps([name, tensor.dtype, tensor.shape], separators=(",", ":")).encode())
        for block in tensor.blocks():
            digest.update(block)
    return digest.hexdigest()


def _architecture(config: ModelConfig) -> bytes:
    content = {name: value for name, value in asdict(config).items() if name != "extra" and (name, value) not in _V3.items()}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
