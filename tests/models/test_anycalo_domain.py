"""The domain of a model of several detectors: ranges of descriptors, and what lies outside them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anycalo.errors import ModelError
from anycalo.geometry.derived import moliere_radius_mm
from anycalo.geometry.descriptors import RANGED, WHOLE, descriptor_ranges
from anycalo.models import Domain
from anycalo.models.config import from_table
from anycalo.showers import Incident
from toyshowers import toy_showers
from toyzoo import stack, toy_zoo


@pytest.fixture(scope="module")
def domain() -> Domain:
    return Domain.of([toy_showers(d, 10, k, max_angle_rad=0.3) for k, d in enumerate(toy_zoo())])


def test_ranges_are_those_of_all_detectors(domain: Domain) -> None:
    assert domain.detectors == ()
    assert domain.n_detectors == 4
    assert set(domain.ranges) == {f"layer {n}" for n in RANGED} | {f"detector {n}" for n in WHOLE}
    radii = [moliere_radius_mm(d) for d in toy_zoo()]
    assert domain.ranges["detector moliere_mm"] == (min(radii), max(radii))
    assert domain.ranges["detector field_tesla"] == (0.0, 3.5)
    with pytest.raises(ModelError, match="trained on 4 detectors; say which one is meant"):
        domain.detector  # noqa: B018


def test_one_detector_in_two_batches_is_one() -> None:
    detector = toy_zoo()[0]
    domain = Domain.of([toy_showers(detector, 5, k) for k in range(2)])
    assert domain.n_detectors == 1
    assert domain.detector == detector
    assert domain.ranges == {}


def test_what_was_trained_on_is_inside(domain: Domain) -> None:
    energy = np.array(domain.energy_mev)
    for detector in toy_zoo():
        assert domain.breaches(detector, Incident("gamma", energy_mev=energy)) == []
        renamed = dataclasses.replace(detector, name="another name")
        assert domain.breaches(renamed, Incident("gamma", energy_mev=energy)) == []


def test_what_lies_outside_is_named(domain: Domain) -> None:
    inside = Incident("gamma", energy_mev=3e3, n=1)
    deep = stack(40, 5.0, name="deep")
    (sentence,) = domain.breaches(deep, inside)
    low, high = domain.ranges["detector depth_x0"]
    assert sentence.startswith("'detector depth_x0' of deep, ")
    assert sentence.endswith(f"reaches outside the trained range, {low:.4g} to {high:.4g}")
    strong = dataclasses.replace(toy_zoo()[0], name="strong", field_tesla=8.0)
    (sentence,) = domain.breaches(strong, inside)
    assert sentence == "'detector field_tesla' of strong, 8, reaches outside the trained range, 0 to 3.5"
    # A sensor thicker than any: it is the layers' range that is left, and with it the sampling fraction.
    thick = stack(6, 5.0, sensor_mm=20.0, name="thick")
    found = " ".join(domain.breaches(thick, inside))
    assert "'layer sensor_mm' of thick, 20, reaches outside" in found
    assert "'layer sampling_fraction' of thick" in found
    wrong = Incident("electron", energy_mev=9e4, direction=[0.8, 0.0, 0.6], n=1)
    assert len(domain.breaches(strong, wrong)) == 4


def test_a_percent_outside_is_forgiven(domain: Domain) -> None:
    _, high = domain.ranges["detector field_tesla"]
    inside = Incident("gamma", energy_mev=3e3, n=1)
    for factor, breaches in ((1.009, 0), (1.02, 1)):
        other = dataclasses.replace(toy_zoo()[0], field_tesla=high * factor)
        assert len(domain.breaches(other, inside)) == breaches


def test_a_domain_reads_back_from_plain_values(domain: Domain) -> None:
    table = dataclasses.asdict(domain)
    assert from_table(Domain, table, where="domain", error=ModelError) == domain
    del table["n_detectors"], table["ranges"]
    assert from_table(Domain, table, where="domain", error=ModelError).n_detectors == 1
    # Every descriptor that is asked of a detector has a range.
    assert set(descriptor_ranges(toy_zoo()[1])) == set(domain.ranges)
