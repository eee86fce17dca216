"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    import torch


class Held(StrEnum):
    """How a network's weights are held."""

    stored = "stored"
    float32 = "float32"
    bfloat16 = "bfloat16"


HeldOption: TypeAlias = Annotated[Held, typer.Option("--dtype", help="How the weights are held, and what is computed in.")]
DeviceOption: TypeAlias = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]


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

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError):  # AssertionError: PyTorch without CUDA
        raise DeviceError(f"Device {name} cannot be used here: give cpu, or cuda where PyTorch sees a GPU.") from None
    return name
