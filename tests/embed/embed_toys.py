"""A small model, its scales set from toy showers and its networks untrained: enough to run everything."""

from __future__ import annotations

from anycalo.geometry import Detector
from anycalo.models import Domain
from anycalo.models.caloclouds import CaloClouds, CaloCloudsConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from toyshowers import toy_showers


def toy_model(detector: Detector, **config: object) -> CaloClouds:
    showers = toy_showers(detector, 120, 1, max_angle_rad=0.3)
    small = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=1, hidden=(16,)), network=PointwiseConfig(hidden=(8, 8)), **{"steps": 2, **config}
    )
    model = CaloClouds(small, Domain.of([showers]))
    model.stages([showers[:100]], [showers[100:]], seed=1)
    return model.eval()
