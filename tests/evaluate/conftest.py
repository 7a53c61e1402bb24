"""Toy showers in a small calorimeter: gamma-like depth profiles that fluctuate, made in numpy."""

from collections.abc import Callable

import numpy as np
import pytest

from anycalo.geometry import Detector, Layer, Rectangular, Section, Slab
from anycalo.showers import Incident, Showers

LAYERS = 12


def small_detector(name: str = "small", tungsten_mm: float = 6.0) -> Detector:
    stack = (Slab(material="G4_W", thickness_mm=tungsten_mm), Slab(material="G4_Si", thickness_mm=0.5, sensitive=True))
    layer = Layer(stack=stack, readout=Rectangular(pitch_mm=(5.0, 5.0)))
    return Detector(name=name, sections=(Section(layers=(layer,), repeat=LAYERS),), size_mm=(300.0, 300.0), threshold_mip=0.1)


def toy_showers(
    n: int,
    seed: int,
    *,
    incident: Incident | None = None,
    energy_scale: float = 1.0,
    reverse: bool = False,
    points: int = 60,
    detector: Detector | None = None,
) -> Showers:
    """n showers of 1 to 5 GeV photons: `points` deposits each, gamma-distributed in depth, exponential in radius.

    Args:
        energy_scale: multiplies every deposit.
        reverse: whether the layers are turned front to back.
    """
    rng = np.random.default_rng([seed, 0x70])
    detector = small_detector() if detector is None else detector
    incident = Incident("gamma", energy_mev=rng.uniform(1000, 5000, n)) if incident is None else incident
    visible = 0.02 * incident.energy_mev * (1 + 0.05 * rng.normal(size=n)) * energy_scale
    depth = rng.gamma(rng.uniform(2.5, 4.5, n)[:, None], 1.0, size=(n, points))
    layer = np.minimum(depth, LAYERS - 1e-3).astype(np.int64)
    if reverse:
        layer = LAYERS - 1 - layer
    energy = visible[:, None] * rng.dirichlet(np.ones(points), size=n)
    r, phi = rng.exponential(8.0, (n, points)), rng.uniform(0, 2 * np.pi, (n, points))
    axis = incident.direction[:, None, :2] / incident.direction[:, None, 2:] * detector.layer_z_mm[layer][..., None]
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.arange(n + 1) * points,
        x_mm=(r * np.cos(phi) + axis[..., 0]).ravel(),
        y_mm=(r * np.sin(phi) + axis[..., 1]).ravel(),
        layer=layer.ravel(),
        energy_mev=energy.ravel(),
        provenance={"toy": seed},
    )


@pytest.fixture(scope="session")
def toy() -> Callable[..., Showers]:
    return toy_showers


@pytest.fixture(scope="session")
def detector() -> Detector:
    return small_detector()


@pytest.fixture(scope="session")
def thicker_detector() -> Detector:
    return small_detector(tungsten_mm=6.1)
