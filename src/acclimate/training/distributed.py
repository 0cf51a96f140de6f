"""One step on several processes: who computes which rows, and how gradients meet.

The launcher (ours, torchrun, accelerate) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Every process makes the
whole batch of a step, which costs microseconds, and computes its share of the rows; each loss is divided by the target count of
the whole window, so that gradients are summed, not averaged, and equal those of one process up to the order of float sums.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from acclimate.errors import EnvironmentUnfitError
from acclimate.launch import MEETING_FILE, is_launched

Sharding = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """This process among those of a run; one process by itself needs no launcher."""

    rank: int = 0
    size: int = 1
    sharding: Sharding = "ddp"

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, records and outs."""
        return self.rank == 0

    def share(self, num_rows: int) -> tuple[int, int]:
        """The rows of a batch that this process computes, as start and stop."""
        return num_rows * self.rank // self.size, num_rows * (self.rank + 1) // self.size

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def max(self, *numbers: int) -> list[int]:
        """The largest of each number in any process. One small message on the CPU, so no device is waited for."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=_host_group())
        return [int(value) for value in values]

    def from_main(self, value: Any) -> Any:
        """The main process's value, in every process: what they decide by must be the same to the bit."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0, group=_host_group())
        return held[0]

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier(group=_host_group())


_HOST_GROUP: list[Any] = []


def _host_group() -> Any:
    if not _HOST_GROUP:
        _HOST_GROUP.append(dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo"))
    return _HOST_GROUP[0]


def join_world(device: torch.device, *, sharding: Sharding = "ddp", timeout_s: float = 300.0) -> World:
    """Meet the other processes of this run, where a launcher started some: NCCL on GPUs, gloo on CPUs.

    Args:
        timeout_s: how long the others are waited for.

    Raises:
        EnvironmentUnfitError: they do not come.
    """
    if not is_launched() or os.environ["WORLD_SIZE"] == "1":
        return World()
    if not dist.is_initialized():
        try:
            store, rank, size = _meet(timeout_s)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        except (RuntimeError, ValueError, KeyError) as error:
            address = os.environ.get(MEETING_FILE) or f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EnvironmentUnfitError(
                f"train.launch: the {os.environ['WORLD_SIZE']} processes did not meet at {address} within {timeout_s:g} s: {reason}"
            ) from None
    return World(dist.get_rank(), dist.get_world_size(), sharding)


def _meet(timeout_s: float) -> tuple[Any, int, int]:
    """The store that the processes share, this one's rank, and their number; through a file where our launcher names one."""
    meeting = os.environ.get(MEETING_FILE)
    if not meeting:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
        return store, rank, size
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    shared = dist.FileStore(meeting, size)  # type: ignore[attr-defined]
    shared.set(f"here/{rank}", "")
    shared.wait([f"here/{each}" for each in range(size)], timedelta(seconds=timeout_s))
    return shared, rank, size


def leave_world() -> None:
    """Part from the other processes."""
    if dist.is_available() and dist.is_initialized():
        _HOST_GROUP.clear()
        dist.destroy_process_group()


_BUCKET_BYTES = 25 << 20
"""Gradients that travel as one message."""


def sum_gradients(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Leave the sum of all processes' gradients in each of them; split parameters have theirs summed in backward."""
    if world.size == 1 or world.sharding == "fsdp":
        return
    bucket: list[Tensor] = []
    for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
        if bucket and (sum(map(_num_bytes, bucket)) + _num_bytes(gradient) > _BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            _sum_bucket(bucket)
            bucket = []
        bucket.append(gradient)
    if bucket:
        _sum_bucket(bucket)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _sum_bucket(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])


ModelType = TypeVar("ModelType", bound=nn.Module)


def sharded_copy(model: ModelType, world: World) -> ModelType:
    """The model itself, or with sharding a copy whose parameters, gradients and optimizer state are split over the processes (FSDP2).

    The model is gathered as one for each forward: what shrinks is optimizer state and what lies between the steps. Sharding layer by layer
    would need each layer's own forward to be called, which the fast path does not do; encoders up to a billion parameters do not need it.
    """
    if world.size == 1 or world.sharding == "ddp":
        return model
    from torch.distributed.fsdp import fully_shard

    copied = copy.deepcopy(model)
    # It warns of a view that forward returns, lest a caller write into it; none of ours does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    fully_shard(copied)
    return copied


def collect(trained: nn.Module, model: nn.Module) -> None:
    """Give the model the weights that its split copy was trained to, in every process."""
    if trained is not model:
        model.load_state_dict({name: whole(tensor) for name, tensor in trained.state_dict().items()})


def is_split(tensor: Tensor) -> bool:
    """Whether a tensor's parts lie in several processes."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Tensor) -> Tensor:
    """The part of a split tensor that lies here, in the same memory; another tensor as it is."""
    return tensor.detach().to_local() if is_split(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """A split tensor gathered: every process must ask, in the same order. Another tensor as it is."""
    return tensor.detach().full_tensor() if is_split(tensor) else tensor  # type: ignore[attr-defined]


def split_as(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor that every process holds whole, split as another one is; where that one is not, or it already is, as it is."""
    if not is_split(like) or is_split(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def gathered(value: Any, *, keep: bool) -> Any:
    """The value with each split tensor in it whole and on the host, one after the other: every process must ask.

    Args:
        keep: False leaves the split tensors out, for a process that only helps gathering.
    """
    if isinstance(value, Tensor):
        if not is_split(value):
            return value
        full = whole(value)
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: gathered(part, keep=keep) for key, part in value.items()}
    if isinstance(value, list):
        return [gathered(part, keep=keep) for part in value]
    return value


def gradient_scale(world: World) -> float:
    """FSDP averages over the processes; times their number gives the sum."""
    return float(world.size) if world.sharding == "fsdp" else 1.0
