"""One or several objectives on one backbone: a step trains them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from acclimate.protocols import Group, Losses, Rates, Trained


class Mixture(Trained[Any]):
    """Members that share a backbone; a stream bears its member's name.

    Args:
        members: a `Trained` by name.
        weights: of each member in the step's sum.
        penalties: modules whose forward gives a loss of the weights, by name.
    """

    def __init__(
        self, backbone: nn.Module, members: Mapping[str, Trained[Any]], weights: Mapping[str, float], penalties: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.members: Mapping[str, Trained[Any]] = nn.ModuleDict(members)  # type: ignore[assignment]
        self.penalties = nn.ModuleDict(penalties)
        self.weights = {loss: weights[name] * weight for name, member in members.items() for loss, weight in member.weights.items()}

    def forward(self, batch: Any, stream: str) -> Losses:
        """Of the stream's member."""
        losses: Losses = self.members[stream](batch, stream)
        return losses

    def passes(self, batch: Any, stream: str, call: Callable[[Any, str], Losses]) -> Iterator[Losses | Tensor]:
        """Of the stream's member."""
        yield from self.members[stream].passes(batch, stream, call)

    def groups(self, rates: Rates) -> list[Group]:
        """Of every member; what several share belongs to the first."""
        taken: set[int] = set()
        found = []
        for member in self.members.values():
            for group in member.groups(rates):
                own = [parameter for parameter in group.parameters if id(parameter) not in taken]
                taken.update(map(id, own))
                found.append(Group(own, group.learning_rate, group.weight_decay, group.gate))
        return [group for group in found if group.parameters]

    def own_parameters(self) -> list[nn.Parameter]:
        """What is trained and is no part of the backbone: heads, generators, decoders."""
        backbone = {id(parameter) for parameter in self.backbone.parameters()}
        return [each for each in self.parameters() if each.requires_grad and id(each) not in backbone]

    @property
    def needs_warmup(self) -> bool:  # type: ignore[override]
        """Whether a member's own parameters begin untrained."""
        return any(member.needs_warmup for member in self.members.values())

    def penalty(self) -> Losses:
        """Of every member, and of what retention holds the weights to."""
        found: Losses = {}
        for member in self.members.values():
            found |= member.penalty()
        return found | {name: module() for name, module in self.penalties.items()}

    def before_step(self, step: int) -> None:
        """For every member."""
        for member in self.members.values():
            member.before_step(step)

    def after_update(self, step: int) -> None:
        """For every member."""
        for member in self.members.values():
            member.after_update(step)

    def kept(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def card(self) -> dict[str, Any]:
        """What each member says of itself."""
        return {name: member.card() for name, member in self.members.items()}

    def flops_per_token(self, batches: Any) -> float | None:
        """Of the only member; several are not counted."""
        return next(iter(self.members.values())).flops_per_token(batches) if len(self.members) == 1 else None
