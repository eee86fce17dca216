"""What training by a plan takes on this machine: the document that `consortium model info --adapters` prints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.checkpoint.headers import read_headers
from model.checkpoint.inventory import held_base
from model.checkpoint.matching import stored_config
from model.cli.options import Held
from model.cli.plan_tables import read_plan_tables
from model.config import ModelConfig, read_config
from model.errors import ConfigError
from model.layout import AdapterConfig, AdapterTensor, Experts, adapter_layout, expert_layers
from model.memory import Memory, training_memory

_WIDTH = {Held.stored: None, Held.float32: 4, Held.bfloat16: 2}


@dataclass(frozen=True, slots=True)
class Machine:
    """The memory that training would use."""

    kind: str  # "GPU memory" or "RAM"
    size: int  # bytes


def this_machine() -> Machine:
    """The first GPU's memory where PyTorch sees one, and else the main memory, all of it."""
    import torch

    if torch.cuda.is_available():
        return Machine("GPU memory", torch.cuda.get_device_properties(0).total_memory)
    return Machine("RAM", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def training_facts(directory: Path, plan: Path, tokens: int | None, share: float | None, held: Held, machine: Machine) -> dict[str, Any]:
    """Parts of the memory, with and without gradient checkpointing, for a base and a plan's [trainable] and [training].

    Raises:
        ConfigError, AdapterError: the plan cannot be read, or asks for what the base does not have.
    """
    tables = read_plan_tables(plan)
    config = stored_config(read_config(directory), read_headers(directory))
    layout, assumption = _layout(config, tables.trainable, tables.expert_top_p if share is None else share, plan)
    rows, tokens = tables.batch_size, tokens or tables.max_tokens
    base = held_base(directory, _WIDTH[held])
    plain, frugal = (training_memory(config, base, layout, rows, tokens, checkpointing) for checkpointing in (False, True))
    return {
        "batch_size": rows,
        "tokens": tokens,
        "trained_parameters": sum(math.prod(tensor.shape) for tensor in layout),
        "assumption": assumption,
        "held": "its stored types" if held is Held.stored else held.value,
        "plain": _document(plain, machine),
        "checkpointing": _document(frugal, machine),
        "machine": asdict(machine),
    }


def _document(memory: Memory, machine: Machine) -> dict[str, Any]:
    return {"parts": asdict(memory), "total": memory.total, "fits": memory.total <= machine.size}


def _layout(config: ModelConfig, trainable: Mapping[str, Any], share: float, plan: Path) -> tuple[tuple[AdapterTensor, ...], str]:
    """The adapter's tensors, and what was assumed about the experts that nobody has chosen yet."""
    try:
        adapter = AdapterConfig.from_fields(trainable)
        experts, assumption = _experts(config, adapter, str(trainable.get("experts", "esft-token")), share)
        return adapter_layout(config, adapter, experts), assumption
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(f"{plan}: [trainable] has a value of the wrong type; see it with `consortium plan check`") from None


def _experts(config: ModelConfig, adapter: AdapterConfig, choice: str, share: float) -> tuple[Experts, str]:
    if choice == "none":
        return {}, "no routed expert is adapted"
    count = config.n_routed_experts if choice == "all" else min(math.ceil(share * config.n_routed_experts), config.n_routed_experts)
    layers = expert_layers(config, mtp=adapter.mtp is not False)
    said = "all experts are adapted" if choice == "all" else f"assumed: {count} of a layer's {config.n_routed_experts} experts are adapted"
    return {layer: tuple(range(count)) for layer in layers}, said
