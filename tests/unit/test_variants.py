"""Encoders and recipes of params.yaml: what is shared, what each lays over it, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from acclimate import plugins
from acclimate.choices import Chosen
from acclimate.config import Config, parse_config
from acclimate.errors import ConfigError
from acclimate.params_file import read_yaml
from acclimate.training.options import EncoderConfig, Variant

PARAMS = Path(__file__).parents[2] / "params.yaml"


def config(**changes: Any) -> Config:
    """The project's params.yaml with values by dotted path, `__` for the dot."""
    raw = copy.deepcopy(read_yaml(PARAMS))
    for path, value in changes.items():
        *sections, name = path.split("__")
        place: Any = raw
        for each in sections:
            place = place.setdefault(each, {})
        place[name] = value
    return parse_config(raw, file=Path("params.yaml"))


def refused(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        config(**changes)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


def test_a_recipe_has_what_is_shared_and_its_own_values_before_it() -> None:
    found = config(finetune__epochs=3, recipes__long={"epochs": 9, "health": {"patience": 2}}, finetune__health={"spike_sigmas": 5.0})
    assert (found.recipe("full").epochs, found.recipe("long").epochs) == (3, 9)
    health = found.recipe("long").health
    assert (health.patience, health.spike_sigmas) == (2, 5.0), "a section is laid over key by key"


def test_a_choice_of_components_takes_the_place_of_the_shared_one_whole() -> None:
    found = config(
        pretrain__objectives={"mlm": {"rate": 0.2}},
        encoders__hard={"start": "base", "objectives": {"mlm": {"mask_share": 1.0}}, "retention": {}},
    )
    (objective,) = found.encoder("hard").objectives
    assert objective.component.rate == 0.15, "not the shared 0.2"
    assert found.encoder("hard").retention == ()
    assert found.encoder("adapted").objectives[0].component.rate == 0.2


def test_a_bare_name_chooses_a_component_without_options_and_a_weight_stands_beside_them() -> None:
    found = config(encoders__a={"start": "base", "objectives": "mlm"}, encoders__b={"start": "a", "objectives": {"mlm": {"weight": 0.5}}})
    (bare,), (weighted,) = found.encoder("a").objectives, found.encoder("b").objectives
    assert (bare.name, bare.weight, weighted.weight) == ("mlm", 1.0, 0.5)
    assert bare.component == weighted.component
    assert isinstance(found.recipe("full").strategy, Chosen)


def test_what_is_written_is_read_back_the_same() -> None:
    found = config()
    assert Config.model_validate(found.model_dump(by_alias=True)) == found
    encoder = found.encoder("adapted")
    assert EncoderConfig.model_validate(encoder.model_dump(mode="json")) == encoder


def test_variants_are_every_encoder_with_every_recipe() -> None:
    runs = config(runs__recipes=["full", "lora"]).runs
    assert [variant.name for variant in runs.variants] == ["base-full", "base-lora", "adapted-full", "adapted-lora"]
    assert runs.reference == Variant(encoder="base", recipe="full")


def test_an_unknown_encoder_or_recipe_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'lorra' is not defined under `recipes`; did you mean 'lora'\? \(defined: full, lora\)"):
        config().recipe("lorra")
    with pytest.raises(ConfigError, match="'base' is not defined under `encoders`"):
        config().encoder("base")


def test_a_problem_of_a_shared_value_is_told_once_and_where_it_stands() -> None:
    assert refused(finetune__epochs=0) == ["finetune.epochs: Input should be greater than 0 (given: 0)"]
    assert refused(recipes__lora__epochs=0) == ["recipes.lora.epochs: Input should be greater than 0 (given: 0)"]
    assert refused(encoders__adapted__optimizer={"beta2": 2.0}) == [
        "encoders.adapted.optimizer.beta2: Input should be less than 1 (given: 2.0)"
    ]
    assert refused(pretrain__optimizer__beta2=2.0) == ["pretrain.optimizer.beta2: Input should be less than 1 (given: 2.0)"]
    assert refused(finetune__power=2.0)[0].startswith("finetune.power: not read by schedule `linear`")


OBJECTIVES = ", ".join(plugins.names("objectives"))
REFUSED = {
    "an unknown objective": (
        {"pretrain__objectives": {"mln": {}}},
        f"pretrain.objectives.mln: 'mln' is not one of the objectives; did you mean 'mlm'? (allowed: {OBJECTIVES})",
    ),
    "an unknown option of a strategy": (
        {"recipes__lora__strategy": {"lora": {"rnk": 3}}},
        "recipes.lora.strategy.lora.rnk: unknown key; did you mean `rank`?",
    ),
    "two strategies": (
        {"recipes__lora__strategy": {"lora": {}, "full": {}}},
        "recipes.lora.strategy: exactly one of the strategies is chosen here, not 2",
    ),
    "no objective": (
        {"pretrain__objectives": {}},
        f"pretrain.objectives: at least one of the objectives is needed (allowed: {OBJECTIVES})",
    ),
    "an encoder without a start": ({"encoders__x": {}}, "encoders.x.start: missing; it must be given"),
    "a shared start": ({"pretrain__start": "base"}, "pretrain.start: stands in each of `encoders`"),
    "an unknown start": (
        {"encoders__x": {"start": "adaptd"}},
        "encoders.x.start: 'adaptd' is not defined under `encoders`; did you mean 'adapted'? (defined: base, scratch, adapted, other, x)",
    ),
    "a circle": (
        {"encoders__a": {"start": "b"}, "encoders__b": {"start": "a"}},
        "encoders: a starts from b starts from a, a circle; one of them must start from `base` or `scratch`",
    ),
    "an encoder that starts from itself": (
        {"encoders__adapted": {"start": "adapted"}},
        "encoders: adapted starts from adapted, a circle; one of them must start from `base` or `scratch`",
    ),
    "an encoder called base": (
        {"encoders__base": {"start": "adapted"}},
        "encoders.base: so the encoder that `model` names is called; give this one another name",
    ),
    "an encoder called scratch": (
        {"encoders__scratch": {"start": "base"}},
        "encoders.scratch: so the encoder with random weights is called; give this one another name",
    ),
    "text that is not there": (
        {"ingest__other": []},
        "encoders.other.text: `other` is the text of ingest.other, which names none; name files there or write `corpus`",
    ),
    "shared text that is not there": (
        {"pretrain__text": "other", "encoders__x": {"start": "base"}, "ingest__other": []},
        "pretrain.text: `other` is the text of ingest.other, which names none; name files there or write `corpus`",
    ),
    "a reference that is not among the variants": (
        {"runs__reference": {"encoder": "base", "recipe": "lora"}},
        "runs.reference: base-lora is not among the variants of `encoders` and `recipes`: base-full, adapted-full",
    ),
    "an unknown recipe in runs": (
        {"runs__recipes": ["full", "lorra"]},
        "runs.recipes: 'lorra' is not defined under `recipes`; did you mean 'lora'? (defined: full, lora)",
    ),
    "a recipe named twice": ({"runs__recipes": ["full", "full"]}, "runs: `recipes` names a value twice: ['full', 'full']"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_together_is_refused_in_one_line(what: str) -> None:
    changes, line = REFUSED[what]
    assert refused(**changes) == [line]


@pytest.mark.parametrize("section", ["tasks", "encoders", "recipes"])
@pytest.mark.parametrize("name", ["a-b", "../x", "", "9lives", "a.b", "a b", "a" * 61])
def test_a_name_that_cannot_be_a_part_of_a_file_name_is_refused(section: str, name: str) -> None:
    raw = read_yaml(PARAMS)
    raw[section][name] = dict(next(iter(raw[section].values())))
    with pytest.raises(ConfigError, match="it becomes a file name") as error:
        parse_config(raw, file=PARAMS)
    assert len(str(error.value).splitlines()) == 2


def test_without_made_encoders_the_base_alone_is_compared_by_recipes() -> None:
    found = config(encoders={}, probe__controls=[], runs__encoders=["base"], runs__recipes=["full", "lora"])
    assert [variant.name for variant in found.runs.variants] == ["base-full", "base-lora"]


def test_random_weights_are_a_start_and_are_fine_tuned() -> None:
    found = config(encoders__anew={"start": "scratch"}, runs__encoders=["base", "scratch", "anew"])
    assert found.encoder("anew").start == "scratch"
    assert [variant.encoder for variant in found.runs.variants] == ["base", "scratch", "anew"]


def test_retention_that_works_in_pretraining_alone_is_refused_in_a_recipe() -> None:
    usable = [name for name in plugins.names("retention") if plugins.load("retention", name).in_finetuning]
    assert config(recipes__held={"retention": dict.fromkeys(usable)}).recipe("held").retention
    for name in sorted(set(plugins.names("retention")) - set(usable)):
        said = f"recipes.held.retention.{name}: works in pretraining alone; a recipe may choose: {', '.join(usable)}"
        assert refused(recipes__held={"retention": {name: {}}}) == [said]


def test_two_terms_with_passes_of_their_own_are_refused_in_one_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = plugins.names("terms")[:2]
    assert config(recipes__both={"terms": {one: {}, other: {}}})
    for name in (one, other):
        monkeypatch.setattr(plugins.load("terms", name), "has_passes", True)
    said = f"recipes.both.terms: {one} and {other} each run the batch in passes of their own; choose one of them"
    assert refused(recipes__both={"terms": {one: {}, other: {}}}) == [said]
    said = f"recipes.both.terms.{one}.weight: has no effect, since its passes take the place of the batch; remove it"
    assert refused(recipes__both={"terms": {one: {"weight": 2.0}}}) == [said]


def test_a_layout_is_loaded_also_where_other_components_are_only_named(tmp_path: Path) -> None:
    raw = copy.deepcopy(read_yaml(PARAMS))
    task = next(iter(raw["tasks"]))
    for layout in plugins.names("data.reading.layouts"):
        raw["tasks"][task]["layout"] = layout
        found = parse_config(raw, file=PARAMS, components=False)
        assert callable(found.tasks[task].layout.component.files)  # type: ignore[union-attr]
