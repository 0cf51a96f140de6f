"""Families whose layers are post-norm: while nothing is altered, training goes through the written-out forward (fast/post_norm.py).

Shape suffixes: B rows, T tokens, N tokens of all rows, M asked positions, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.backbones.fast import post_norm, rows
from acclimate.backbones.fast.attention import Pieces, Positions, RealTokens, pad, real_tokens


class PostNorm(Backbone):
    """Encoder whose forward is written out.

    The written-out forward calls embeddings, products, activations and norms as modules, so wrapping one of those works. It does not call
    the modules that only hold others; where one of those is wrapped or hooked, transformers' own forward is taken.
    """

    kernels: ClassVar[tuple[str, ...]] = ("eager", "sdpa", "varlen")
    compiled: ClassVar[tuple[str, ...]] = (*Backbone.compiled, "_fast_packed", "_fast_padded")

    def __init__(self, model: Any, *, varlen: bool = False) -> None:
        super().__init__(model, varlen=varlen)
        self._classes = frozenset(type(module) for module in self.containers())

    @abstractmethod
    def containers(self) -> Iterator[nn.Module]:
        """The modules whose own forward is written out, so never called."""

    @abstractmethod
    def written_out(self) -> list[post_norm.Layer]:
        """The layers, first to last."""

    @abstractmethod
    def embed_flat(self, ids_N: Tensor, position_N: Tensor, type_ids_N: Tensor | None) -> Tensor:
        """What the first layer sees, (N, D)."""

    @property
    def is_unaltered(self) -> bool:
        """Whether the written-out forward computes what transformers' own does."""
        try:
            containers = list(self.containers())
        except AttributeError:  # a wrapper that does not hand on what it holds
            return False
        return all(type(module) in self._classes and not _is_hooked(module) for module in containers)

    @property
    def takes_varlen(self) -> bool:
        """Whether variable-length attention was asked for and products run in 16 bits, which its kernel needs."""
        return self.wants_varlen and torch.is_autocast_enabled("cuda")

    def packed(self, ids_BT: Tensor, segments_BT: Tensor, *, at: Positions | None = None, pieces: Pieces | None = None) -> Tensor:
        """See `Backbone.packed`."""
        if self.edits or not self.is_unaltered:
            return super().packed(ids_BT, segments_BT, at=at, pieces=pieces)
        return self._fast_packed(ids_BT, segments_BT, at, pieces)

    def padded(
        self,
        ids_BT: Tensor,
        mask_BT: Tensor,
        type_ids_BT: Tensor | None = None,
        *,
        real: RealTokens | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """See `Backbone.padded`; in training padding costs next to nothing."""
        if not self.training or self.edits or not self.is_unaltered:
            return super().padded(ids_BT, mask_BT, type_ids_BT, real=real, first_only=first_only)
        real = real or real_tokens(mask_BT.sum(1).cpu().numpy(), mask_BT.shape[1])
        return self._fast_padded(ids_BT, mask_BT, type_ids_BT if self.takes_type_ids else None, real, first_only)

    def _fast_packed(self, ids_BT: Tensor, segments_BT: Tensor, at: Positions | None, pieces: Pieces | None) -> Tensor:
        attention = rows.packed_attention(segments_BT, self.kernel, at, pieces if self.takes_varlen else None)
        position_N = rows.piece_positions(segments_BT).flatten() + self.first_position
        hidden_ND = self._encode_flat(ids_BT.flatten(), attention, position_N, None, None if at is None else at.flat_M)
        return hidden_ND.view(*ids_BT.shape, -1) if at is None else hidden_ND

    def _fast_padded(self, ids_BT: Tensor, mask_BT: Tensor, type_ids_BT: Tensor | None, real: RealTokens, first_only: bool) -> Tensor:
        flat_N, first_B, attention = rows.unpadded_attention(
            mask_BT, real, self.kernel, varlen=self.takes_varlen, width=self.width, first_only=first_only
        )
        hidden = self._encode_flat(
            ids_BT.flatten()[flat_N],
            attention,
            flat_N % ids_BT.shape[1] + self.first_position,
            None if type_ids_BT is None else type_ids_BT.flatten()[flat_N],
            first_B if first_only else None,
        )
        if first_only:
            return hidden
        shape = (ids_BT.shape[0], ids_BT.shape[1])
        return hidden.view(*shape, -1) if len(hidden) == ids_BT.numel() else pad(hidden, flat_N, shape)

    def _encode_flat(self, ids_N: Tensor, attention: Any, position_N: Tensor, type_ids_N: Tensor | None, asked_M: Tensor | None) -> Tensor:
        hidden_ND = self.embed_flat(ids_N, position_N, type_ids_N)
        recomputes = self.training and self.model.is_activation_checkpointing
        return post_norm.encode(self.written_out(), hidden_ND, attention, asked_M=asked_M, recomputes=recomputes)


def _is_hooked(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__
