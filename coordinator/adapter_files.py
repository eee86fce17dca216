"""The names and configuration under which peft finds the LoRA tensors of a released model."""

from __future__ import annotations

from typing import Any

from model.layout import AdapterConfig
from protocols.plan import Plan
from protocols.state import Tensors

ADAPTER_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."  # stands before every name in the file; taken away, the names are those of model.layout
_LORA_A = ".lora_A.weight"


def adapter_config(plan: Plan, tensors: Tensors) -> dict[str, Any]:
    """peft's `adapter_config.json` for the modules that it can adapt under our names.

    Routed experts, tensors in full, modules with a core and the embedding, whose factors peft transposes, are not among them.
    """
    adapter = AdapterConfig.from_fields(plan.adapter_fields)
    adapted = [name.removesuffix(_LORA_A) for name in sorted(tensors) if name.endswith(_LORA_A)]
    modules = [module for module in adapted if not (_has_other_names(module) or f"{module}.lora_R.weight" in tensors)]
    ranks = {module: int(tensors[module + _LORA_A].shape[0]) for module in modules}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": plan.base.name,
        "r": adapter.lora_rank,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": modules,
        "rank_pattern": {module: rank for module, rank in ranks.items() if rank != adapter.lora_rank},
    }


def _has_other_names(module: str) -> bool:
    return ".experts." in module or module == "model.embed_tokens"
