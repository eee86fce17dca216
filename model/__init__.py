"""The DeepSeek-V3 network for fine-tuning: MLA, MoE, MTP. Exports lazily, so that `model.config` and `model.layout` need no torch.

To find one's way:

- the network: `config`, `transformer`, `attention`, `moe` (its `routing` and `grouped` products), `mtp`, `layers`, `cache`, `fp8`
- what is trained on it: `layout` (names and shapes), `adapters` (attach, load, merge), `lora`, `expert_adapters`, `experts` (their use)
- training: `objective` (the loss), `loss`, `training` (the loop), `parallel`, `memory` (what it takes)
- `checkpoint/` files of weights, `peft/` and `release`, `export` files of adapters, `text/` tokens and chats, `decoding/` making text,
  `pretraining/` bases from books, `bases/` those that come along, `cli/` the commands
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "load_checkpoint": "model.checkpoint.loading",
    "save_checkpoint": "model.checkpoint.saving",
    "checkpoint_sha256": "model.checkpoint.fingerprint",
    "DeepseekV3": "model.transformer",
    "ModelConfig": "model.config",
}

__all__ = ["DeepseekV3", "ModelConfig", "checkpoint_sha256", "load_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'model' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
