"""The generic loop trains the cell-wise family from showers of one detector, in many segmentations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anycalo.geometry import atlas_like
from anycalo.models import load_model
from anycalo.models.made import CellNetworkConfig
from anycalo.showers import Incident
from anycalo.train import Recipe, train
from toyshowers import toy_showers


def test_the_loop_trains_it(tmp_path: Path) -> None:
    recipe = Recipe.load("gaam")
    network = CellNetworkConfig(hidden=8, sums=8, classes=16, window=1)
    grids = (("4x4", "6x3"), ("4x4",), ("4x4",))
    small = replace(
        recipe,
        model=replace(recipe.model, grids=grids, masked_layers=(1, 2, 1), network=network),
        stages={name: replace(stage, steps=6, validate_every=3) for name, stage in recipe.stages.items()},
    )
    showers = toy_showers(atlas_like(), 60, 1, incident=Incident(energy_mev=3000.0, n=60))
    model = train(small, showers, tmp_path / "run", device="cpu", threads=1)
    assert model.card["data"]["showers"] == 52
    assert sorted(model.card["metrics"]) == ["layer0_loss", "layer1_loss", "layer2_loss"]
    again = load_model(tmp_path / "run")
    assert again.digest() == model.digest()
    assert again.domain.detectors == (
        atlas_like(inner=(4, 4), middle=(4, 4), outer=(4, 4)).to_toml(),
        atlas_like(inner=(6, 3), middle=(4, 4), outer=(4, 4)).to_toml(),
    )
