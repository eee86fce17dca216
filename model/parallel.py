"""One network on several devices of one institution: every process holds a share of the frozen base and takes a share of each batch.

The blocks' matrices are sharded with FSDP2 (torch.distributed.fsdp.fully_shard) and gathered block by block; what is trained is
whole at every process, and its gradients are summed. Each process is given the same batches, and ends a step with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from model.loss import Loss
from model.transformer import DeepseekV3


def shard_base(net: DeepseekV3, mesh: DeviceMesh) -> None:
    """Freezes the network and leaves each process of the mesh its share of every block; adapters are attached afterwards.

    Vectors stay whole: they are small, and an adapter may train them.
    """
    net.requires_grad_(False)
    for block in [*net.model.layers, *net.mtp]:
        vectors = {parameter for parameter in block.parameters() if parameter.dim() == 1}
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=vectors)


@dataclass(frozen=True, slots=True)
class Peers:
    """The processes that take a step together, by their process group."""

    group: dist.ProcessGroup

    def share(self, rows: int) -> range:
        """This process's rows of a batch: all processes have equally many, so the last may run past the end."""
        size = -(-rows // self.group.size())
        return range(self.group.rank() * size, (self.group.rank() + 1) * size)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces each gradient by the sum over the processes; one that no process has stays absent."""
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        dist.all_reduce(present, group=self.group)
        found = [p for p, anywhere in zip(parameters, present.tolist(), strict=True) if anywhere]
        if not found:
            return
        flat = torch.cat([_gradient(p).flatten() for p in found])
        dist.all_reduce(flat, group=self.group)
        for parameter, part in zip(found, flat.split([p.numel() for p in found]), strict=True):
            parameter.grad = part.view_as(parameter)

    def sum_loss(self, loss: Loss) -> Loss:
        """The loss of the whole batch from each process's part."""
        terms = torch.stack([loss.total, loss.main, loss.mtp, loss.balance])
        counts = torch.cat([torch.tensor([loss.target_tokens], device=terms.device), *loss.expert_counts.values()])
        dist.all_reduce(terms, group=self.group)
        dist.all_reduce(counts, group=self.group)
        total, main, mtp, balance = terms.unbind()
        sizes = [len(count) for count in loss.expert_counts.values()]
        layers = dict(zip(loss.expert_counts, counts[1:].split(sizes), strict=True))
        return replace(loss, total=total, main=main, mtp=mtp, balance=balance, expert_counts=layers, target_tokens=int(counts[0]))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
