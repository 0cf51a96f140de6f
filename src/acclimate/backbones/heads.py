"""Heads that kinds of task share."""

from __future__ import annotations

from torch import nn


def linear_head(width: int, num_outputs: int) -> nn.Linear:
    """A linear layer with small weights and no bias yet, as BERT begins one (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""
    head = nn.Linear(width, num_outputs)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head
