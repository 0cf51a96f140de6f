"""The sections `pretrain` with `encoders`, `finetune` with `recipes`, `runs` and `train` of params.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from acclimate.choices import Choice, Chosen
from acclimate.settings import Count, LearningRate, OpenShare, Options, Positive, Share, located, removed

if TYPE_CHECKING:
    from acclimate.protocols import Objective, Retention, Strategy, Term

    AnyObjective = Objective[Any, Any]
else:  # the types' module loads torch, which reading params.yaml does not need
    AnyObjective = Retention = Strategy = Term = Any

OptimizerName = Literal["adamw", "stable_adamw"]
Optimizer = Annotated[OptimizerName, removed({"lamb": "use `adamw` or `stable_adamw`"})]
Schedule = Literal["linear", "cosine", "polynomial", "constant", "cyclical", "wsd"]
CycleShape = Literal["cosine", "triangular"]
DecayShape = Literal["1-sqrt", "linear"]
Average = Literal["none", "ema", "tail"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
SCHEDULE_OPTIONS: dict[Schedule, tuple[str, ...]] = {
    "linear": ("min_factor",),
    "cosine": ("min_factor",),
    "polynomial": ("min_factor", "power"),
    "constant": (),
    "cyclical": ("min_factor", "cycles", "cycle_shape"),
    "wsd": ("min_factor", "decay_share", "decay_shape"),
}
AVERAGE_OPTIONS: dict[Average, tuple[str, ...]] = {"none": (), "ema": ("ema_decay",), "tail": ("tail_share",)}


class OptimizationSection(Options):
    """What pretraining and fine-tuning state alike: the step, the schedule of its rate, the average of the weights it leaves.

    An option that the chosen schedule or average does not read is refused unless it has its default.
    """

    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.01, description="norms and biases have none")
    beta1: OpenShare
    beta2: OpenShare
    epsilon: Positive
    clip_norm: Positive = 1.0
    schedule: Schedule = Field(default="linear", description="see training/schedules.py")
    warmup_share: Share
    min_factor: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(default=0.0, description="share of the rate that the schedule keeps")
    power: Positive = Field(default=1.0, description="of schedule `polynomial`")
    cycles: Count = Field(default=1, description="of schedule `cyclical`")
    cycle_shape: CycleShape = Field(default="cosine", description="of schedule `cyclical`")
    decay_share: OpenShare = Field(default=0.1, description="of schedule `wsd`: the share of all steps that the rate falls in")
    decay_shape: DecayShape = Field(default="1-sqrt", description="of schedule `wsd`")
    average: Average = Field(default="none", description="of the weights, see training/averaging.py; it takes the place of the last ones")
    ema_decay: OpenShare = Field(default=0.999, description="of average `ema`")
    tail_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(default=0.2, description="of average `tail`: the last share of all steps")

    def schedule_options(self) -> dict[str, Any]:
        """What the schedule reads, as keywords of `learning_rate_factor`."""
        return {name: getattr(self, name) for name in SCHEDULE_OPTIONS[self.schedule]}

    @model_validator(mode="after")
    def _options_are_read(self) -> Self:
        _refuse_unread(self, "schedule", SCHEDULE_OPTIONS)
        _refuse_unread(self, "average", AVERAGE_OPTIONS)
        if self.schedule == "wsd" and self.warmup_share + self.decay_share > 1.0:
            together = f"`warmup_share` {self.warmup_share:g} and `decay_share` {self.decay_share:g} together exceed 1"
            raise located(together, "decay_share", value=self.decay_share)
        return self


class HealthSection(Options):
    """What is watched while training; see training/health.py."""

    spike_sigmas: Positive = Field(default=8.0, description="robust standard deviations above the recent median that make a spike")
    on_spike: Literal["mark", "rewind"] = "mark"
    rewind_steps: Count = Field(default=16, description="how far `rewind` goes back at most")
    patience: Annotated[int, Field(ge=0)] = Field(
        default=0, description="evaluations without a better score until training stops and the best weights come back; 0 never"
    )


class OptimizerConfig(OptimizationSection):
    """The optimizer of pretraining; `name` is one of those of training/optimizers.py."""

    name: Optimizer = "adamw"
    learning_rate: LearningRate
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.98
    epsilon: Positive = 1e-6
    warmup_share: Share = 0.06


class EncoderConfig(Options):
    """One made encoder: domain-adaptive pretraining (Gururangan et al. 2020, https://arxiv.org/abs/2004.10964).

    In params.yaml `pretrain` holds what all of them share; `encoders.<name>` overrides it.
    """

    start: str = Field(description="the encoder that it continues: `base`, `scratch` (random weights), or another one of `encoders`")
    text: Literal["corpus", "other"] = Field(
        default="corpus", description="what it is trained on: the domain's, or as a control that of `ingest.other`"
    )
    objectives: Annotated[tuple[Chosen[AnyObjective], ...], Choice("objectives", at_least=1, weighted=True)]
    retention: Annotated[tuple[Chosen[Retention], ...], Choice("retention")] = ()
    retain_by: Literal["probe", "loss"] = Field(
        default="probe",
        description="what chooses among the weights that retention offers: the dev score of linear probes over all tasks of `runs`, "
        "or the mean of held-out domain and general loss; where there is but one, nothing is measured",
    )
    tokens: Count = Field(description="to train on")
    head_warmup_tokens: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = Field(default=32, description="rows of a batch, over all processes")
    accumulation: Count = 1
    optimizer: OptimizerConfig
    head_learning_rate: LearningRate = 1e-3
    dropout: Share = 0.0
    precision: Precision = "auto"
    heldout_rows: Count = 256
    evaluations: Count = 4
    health: HealthSection = HealthSection()
    checkpoint_every_s: Positive = 30.0


class Variant(Options):
    """An encoder and the recipe that it is fine-tuned by."""

    encoder: str
    recipe: str

    @property
    def name(self) -> str:
        """As it stands in file names; neither part holds a dash."""
        return f"{self.encoder}-{self.recipe}"


class RunTasks(Options):
    """The tasks that are fine-tuned."""

    tasks: Annotated[list[str], Field(min_length=1)]
    single_seed_tasks: list[str] = Field(default=[], description="run with the first seed only")

    @property
    def all_tasks(self) -> list[str]:
        """Every task that is fine-tuned, those with all seeds first."""
        return [*self.tasks, *self.single_seed_tasks]


class RunsConfig(RunTasks):
    """Which fine-tunings are made: task x encoder x recipe x seed. Adding one runs no other again."""

    encoders: Annotated[list[str], Field(min_length=1)] = Field(description="`base`, `scratch`, or names of `encoders`")
    recipes: Annotated[list[str], Field(min_length=1)] = Field(description="names of `recipes`")
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    reference: Variant = Field(description="what every other variant is compared with")

    @model_validator(mode="after")
    def _no_repeats(self) -> RunsConfig:
        both = set(self.tasks) & set(self.single_seed_tasks)
        if both:
            raise ValueError(f"{sorted(both)} stand both in `tasks` and in `single_seed_tasks`; keep one")
        for field in ("tasks", "single_seed_tasks", "encoders", "recipes", "seeds"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"`{field}` names a value twice: {values}")
        if self.reference not in self.variants:
            names = ", ".join(variant.name for variant in self.variants)
            raise located(f"{self.reference.name} is not among the variants of `encoders` and `recipes`: {names}", "reference", value={})
        return self

    @property
    def variants(self) -> list[Variant]:
        """Every encoder with every recipe, in the order of params.yaml."""
        return [Variant(encoder=encoder, recipe=recipe) for encoder in self.encoders for recipe in self.recipes]

    def seeds_of(self, task: str) -> list[int]:
        """The seeds that a task is fine-tuned with."""
        return self.seeds if task in self.tasks else self.seeds[:1]


class RecipeConfig(OptimizationSection):
    """One way to fine-tune. In params.yaml `finetune` holds what all recipes share; `recipes.<name>` overrides it."""

    strategy: Annotated[Chosen[Strategy], Choice("strategies", only_one=True)]
    retention: Annotated[tuple[Chosen[Retention], ...], Choice("retention")] = ()
    terms: Annotated[tuple[Chosen[Term], ...], Choice("terms", weighted=True)] = ()
    epochs: Positive = 4
    batch_size: Count = Field(default=16, description="rows of a batch, over all processes")
    accumulation: Count = 1
    optimizer: Optimizer = "adamw"
    learning_rate: LearningRate = 1e-4
    head_learning_rate: LearningRate = 1e-3
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.999
    epsilon: Positive = 1e-8
    warmup_share: Share = 0.1
    dropout: Share = 0.1
    precision: Precision = "auto"
    health: HealthSection = Field(default=HealthSection(), description="its evaluations: the metric on dev, after each epoch")
    checkpoint_every_s: Positive = 30.0


class LaunchConfig(Options):
    """On how many processes a training stage runs. Under torchrun or accelerate theirs count instead."""

    processes: Count = Field(default=1, description="on this node, as a rule one for each GPU")
    nodes: Count = 1
    rendezvous: Annotated[str, Field(pattern=r"^[^:\s]+:\d+$")] | None = Field(default=None, description="host:port of the first node")
    timeout_s: Positive = Field(default=300.0, description="how long the processes wait for each other at the start")
    sharding: Literal["ddp", "fsdp"] = Field(default="ddp", description="fsdp: optimizer state split over the processes")

    @model_validator(mode="after")
    def _nodes_meet(self) -> LaunchConfig:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError("several nodes need `rendezvous`: host:port of the first one")
        return self


class TrainConfig(Options):
    """How training runs, not what it computes: changing it runs no finished stage again."""

    launch: LaunchConfig = LaunchConfig()
    micro_batch_size: Literal["auto"] | Count = Field(
        default="auto", description="rows computed at once; auto halves them when memory runs out"
    )
    compile: bool = Field(default=False, description="torch.compile of the encoder; pays from some minutes of training on")
    activation_checkpointing: bool = Field(default=False, description="compute activations again in backward: less memory, a third slower")
    attention: Literal["auto", "eager", "sdpa", "varlen"] = Field(default="auto", description="kernel; varlen needs a GPU and bf16 or fp16")
    price_per_hour: Positive | None = Field(default=None, description="of this machine, in any currency; `acclimate plan` tells the cost")


def _refuse_unread(section: Options, choice: str, options: Mapping[Any, tuple[str, ...]]) -> None:
    """Refuse an option with a value of its own that the section's choice does not read."""
    chosen, fields = getattr(section, choice), type(section).model_fields
    unread = {name for names in options.values() for name in names} - set(options[chosen])
    for name in sorted(name for name in unread if getattr(section, name) != fields[name].default):
        readers = ", ".join(value for value, names in options.items() if name in names)
        problem = f"not read by {choice} `{chosen}`; remove it or choose one that reads it: {readers}"
        raise located(problem, name, value=getattr(section, name))
