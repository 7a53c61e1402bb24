"""Showers put into another detector by the universal coordinates alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.rescaled import rescaled
from anycalo.models.universal import Geometry, UniversalCoordinates, particle_table
from anycalo.showers import Incident, Showers
from toyshowers import toy_showers
from toyzoo import stack, toy_zoo


def expected(detector: Detector, incident: Incident) -> np.ndarray:
    """Expected energies of the layers, (B, L)."""
    which = torch.zeros(len(incident), dtype=torch.long)
    return UniversalCoordinates().told(Geometry([detector]), which, particle_table(incident)).visible_mev.numpy()


def test_into_its_own_detector_a_shower_is_itself() -> None:
    showers = toy_showers(stack(6, 5.0), 30, 1, max_angle_rad=0.5)
    again = rescaled([showers], showers.detector, showers.incident, seed=1)
    np.testing.assert_array_equal(again.layer_counts(), showers.layer_counts())
    np.testing.assert_allclose(again.layer_energy_mev(), showers.layer_energy_mev(), rtol=1e-4)
    np.testing.assert_allclose(np.sort(again.x_mm), np.sort(showers.x_mm), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.sort(again.energy_mev), np.sort(showers.energy_mev), rtol=1e-3)


def test_energy_stands_to_what_is_expected_as_before() -> None:
    """Layers half as thick: every second sensor stands where one stood, and sees as much relative to the flux there."""
    coarse, fine = stack(6, 5.0), stack(12, 2.5, sensor_mm=0.25)
    showers = toy_showers(coarse, 40, 2)
    made = rescaled([showers], fine, showers.incident, seed=1)
    ratio_old = showers.layer_energy_mev().sum(0) / expected(coarse, showers.incident).sum(0)
    ratio_new = made.layer_energy_mev().sum(0) / expected(fine, showers.incident).sum(0)
    np.testing.assert_allclose(ratio_new[1:10:2], ratio_old[:5], rtol=0.05)
    # Not so for what is not divided by the expectation.
    assert not np.allclose(made.layer_energy_mev().sum(0)[1:10:2], showers.layer_energy_mev().sum(0)[:5], rtol=0.2)


def test_radii_count_in_moliere_radii() -> None:
    dense, light = stack(6, 5.0), stack(6, 25.0, absorber="G4_Fe")
    showers = toy_showers(dense, 200, 3)
    made = rescaled([showers], light, showers.incident, seed=1)
    scale = UniversalCoordinates().scale_mm(light) / UniversalCoordinates().scale_mm(dense)
    assert scale > 1.5

    def median(s: Showers) -> float:
        # Of the first layer alone, whose radii the toy does not let grow with depth.
        return float(np.median(np.hypot(s.x_mm, s.y_mm)[s.layer == 0]))

    assert median(made) / median(showers) == pytest.approx(scale, rel=0.15)


def test_donors_are_of_the_same_particle_and_used_once() -> None:
    zoo = [toy_showers(d, 10, k) for k, d in enumerate(toy_zoo())]
    incident = Incident("gamma", energy_mev=np.full(40, 3e3))
    made = rescaled(zoo, stack(4, 5.0), incident, seed=1)
    # Toy showers of one number in two detectors are nearly the same: what tells donors apart is where points lie.
    assert len({made[k].x_mm.tobytes() for k in range(40)}) == 40
    with pytest.raises(ModelError, match="no donor is of the particle electron"):
        rescaled(zoo, stack(4, 5.0), Incident("electron", energy_mev=3e3, n=1), seed=1)
