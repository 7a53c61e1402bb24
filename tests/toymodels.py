"""Small models with little training, for what is done to models."""

from __future__ import annotations

import torch

from anycalo.geometry import Detector
from anycalo.models import Domain
from anycalo.models.anycalo import AnyCalo, AnyCaloConfig
from anycalo.models.point_flow import PointFlowConfig
from anycalo.models.recurrent import RecurrentConfig
from anycalo.models.totals import TotalsConfig
from toyshowers import toy_showers


def small_anycalo(detector: Detector) -> AnyCalo:
    """A small geometry-aware model: scales from toy showers, networks as they start, which have much to learn."""
    config = AnyCaloConfig(
        totals=TotalsConfig(layer_hidden=8, hidden=12, components=2, members=1, response_weight=0.0),
        layers=RecurrentConfig(embedding=8, hidden=12, head=8, components=2),
        points=PointFlowConfig(hidden=12, depth=1, bins=4, angle_bins=3, radius_features=8),
        grouped=0.0,
        merge_cell_power=0.0,
        merge_radius_mm=0.9,
    )
    showers = toy_showers(detector, 40, 2)
    torch.manual_seed(0)
    model = AnyCalo(config, Domain.of([showers]))
    model.stages([showers], [showers[:5]], seed=1)
    return model.eval()
