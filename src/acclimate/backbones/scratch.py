"""An encoder like another one, with random weights: what architecture, tokenizer and labelled rows reach without pretraining."""

from __future__ import annotations

from pathlib import Path

from acclimate import artifacts
from acclimate.backbones.loading import CONFIG, SOURCE, family_of
from acclimate.backbones.saving import save_backbone


def write_scratch(like: Path, out: Path, *, seed: int) -> None:
    """Write an encoder with the config and the tokenizer of `like`, and weights as transformers begins them; the same bytes for a seed.

    Its note of where it is from names no weights, only what its config and its tokenizer are from.
    """
    import torch

    family = family_of(artifacts.read_json(like / CONFIG)["model_type"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.new_model(like, "eager", {}).float()
    save_backbone(family(model), like, out)
    told = artifacts.read_json(like / SOURCE)
    files = {name: digest for name, digest in told["sha256"].items() if name != "weights"}
    config_of = {**{name: told[name] for name in ("source", "name", "revision")}, "sha256": files}
    artifacts.write_json(out / SOURCE, {"source": "random weights", "seed": seed, "config_of": config_of, "family": told["family"]})
