"""Options that several commands share, and what their values must be."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    import torch


_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")


class Held(StrEnum):
    """How a network's weights are held."""

    stored = "stored"
    float32 = "float32"
    bfloat16 = "bfloat16"


HeldOption: TypeAlias = Annotated[Held, typer.Option("--dtype", help="How the weights are held, and what is computed in.")]
DeviceOption: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
BaseOption: TypeAlias = Annotated[Path | None, typer.Option("--base", help="A release's base, if it is not bundled; a peft adapter's.")]
TemperatureOption: TypeAlias = Annotated[float, typer.Option("--temperature", min=0, help="0 takes the likeliest token, more draws.")]
TopPOption: TypeAlias = Annotated[float, typer.Option("--top-p", min=0, max=1, help="Draw from the likeliest tokens of this mass.")]
SeedOption: TypeAlias = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of what is drawn.")]


def torch_dtype(held: Held) -> torch.dtype | None:
    """The type, or None for those of the files."""
    import torch

    return {Held.stored: None, Held.float32: torch.float32, Held.bfloat16: torch.bfloat16}[held]


def usable_device(name: str) -> str:
    """The device's name.

    Raises:
        DeviceError: it names none, or none that is here.
    """
    import torch

    from model.errors import DeviceError

    if not _DEVICE.fullmatch(name):
        raise DeviceError(f"Device {ascii(name)[1:-1][:80]} is none that a model runs on: give cpu, cuda or cuda:N.")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch without CUDA
        raise DeviceError(f"Device {name} cannot be used here: give cpu, or cuda where PyTorch sees a GPU.") from None
    return name


def within_context(prompt: int, further: int, context: int, text: str, remedy: str) -> int:
    """How many of `further` tokens after a prompt of so many the model's context holds.

    Raises:
        GenerationError: the prompt fills it; `text` names what is too long, and `remedy` what to do.
    """
    from model.errors import GenerationError

    if prompt >= context:
        raise GenerationError(f"The {text} has {prompt} tokens and the model reads {context}: {remedy}.")
    return min(further, context - prompt)
