"""Where the tensors of an adapter lie in a network: how each is read, written, trained and taken off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from model.lora import FactorName, LoRAPair


class Place(Protocol):
    """One tensor's place; shapes are those of `model.layout`."""

    @property
    def parameter(self) -> nn.Parameter | None:
        """What of it can be trained."""

    def read(self) -> Tensor:
        """The tensor, detached."""

    def write(self, values: Tensor) -> None:
        """Copies float32 values of any device."""

    def leave(self, merged: bool) -> None:
        """Gives the base its own tensor back, with the adapter's if `merged`."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor of a pair."""

    pair: LoRAPair
    name: FactorName

    @property
    def parameter(self) -> nn.Parameter:
        parameter: nn.Parameter = getattr(self.pair, self.name)
        return parameter

    def read(self) -> Tensor:
        return self.pair.factor(self.name).detach()

    def write(self, values: Tensor) -> None:
        self.pair.set_factor(self.name, values)

    def leave(self, merged: bool) -> None:
        """The pair goes as a whole."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A difference that is a parameter of its own beside the base's weight."""

    parameter: nn.Parameter

    def read(self) -> Tensor:
        return self.parameter.detach()

    def write(self, values: Tensor) -> None:
        self.parameter.copy_(values)

    def leave(self, merged: bool) -> None:
        """The difference goes with its module."""


class Widened:
    """The base's own parameter, in float32: the adapter's tensor is its difference to the checkpoint's values."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter, self.base = parameter, parameter.detach().clone()
        parameter.data = parameter.float()

    def read(self) -> Tensor:
        return self.parameter.detach() - self.base

    def write(self, values: Tensor) -> None:
        self.parameter.copy_(self.base + values.to(self.base.device))

    def leave(self, merged: bool) -> None:
        self.parameter.grad = None
        self.parameter.data = self.parameter.to(self.base.dtype) if merged else self.base
