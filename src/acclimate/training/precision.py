"""Which floating-point format a step computes in. Weights and optimizer state are always fp32."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from acclimate.errors import EnvironmentUnfitError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Precision:
    """A resolved precision: autocast to `compute`; fp16 scales the loss so that small gradients survive."""

    name: Literal["fp32", "bf16", "fp16"]
    device_type: Literal["cpu", "cuda"]

    @property
    def dtype(self) -> torch.dtype:
        """What products are computed in."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.name]

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context of the forward pass."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Dynamic loss scaling (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740); does nothing but for fp16."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")


def resolve_device() -> torch.device:
    """The GPU when torch sees one, else the CPU; of several processes on a node, each its own GPU.

    Raises:
        EnvironmentUnfitError: the node has fewer GPUs than processes.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if "LOCAL_RANK" in os.environ:
        index, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if index >= count:
            raise EnvironmentUnfitError(f"train.launch: more processes on this node than its GPUs, of which torch sees {count}")
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    return torch.device("cuda")


def resolve_precision(wanted: Literal["auto", "bf16", "fp16", "fp32"], device: torch.device) -> Precision:
    """Choose what the hardware has; a wish that it lacks is named in a warning together with what is used instead."""
    device_type: Literal["cpu", "cuda"] = "cuda" if device.type == "cuda" else "cpu"
    has_bf16 = torch.cuda.is_bf16_supported() if device_type == "cuda" else cpu_has_bf16()
    if wanted == "auto":
        return Precision("bf16" if has_bf16 else ("fp16" if device_type == "cuda" else "fp32"), device_type)
    used: Literal["fp32", "bf16", "fp16"] = wanted
    if wanted == "bf16" and not has_bf16:
        used = "fp16" if device_type == "cuda" else "fp32"
    if wanted == "fp16" and device_type == "cpu":
        used = "bf16" if has_bf16 else "fp32"
    if used != wanted:
        logger.warning("precision: %s is not available on this %s; using %s", wanted, device_type, used)
    return Precision(used, device_type)


def choose_matmul_precision(device: torch.device) -> str:
    """Let float32 products take a faster path where it is as exact; gives what was set.

    On a CPU `medium` sends them to oneDNN, here twice as fast as MKL with the same error; where the hardware has AMX it may compute in
    bf16 instead, so the error against float64 is measured first. On a GPU `high` (TF32, 10 bits) is set, as the field trains.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        return "high"
    torch.set_float32_matmul_precision("highest")
    exact = _product_error()
    torch.set_float32_matmul_precision("medium")
    if _product_error() > 4 * exact:
        torch.set_float32_matmul_precision("highest")
    return torch.get_float32_matmul_precision()


def _product_error() -> float:
    """Greatest error of a float32 product relative to the greatest entry; the tensors are large enough for the fast path."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    reference = left.double() @ right.double().T
    return float((torch.nn.functional.linear(left, right).double() - reference).abs().max() / reference.abs().max())


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware; without it autocast is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
