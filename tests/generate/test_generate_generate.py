"""Generation: batches, seeds, files, warnings outside the domain."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from anycalo.errors import DomainWarning, ModelError, OutputError
from anycalo.generate import generate, generate_file
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain, Noise
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.showers import Incident, Showers
from samples import same
from toyshowers import toy_showers


@pytest.fixture(scope="module")
def model(small_detector: Detector) -> CaloClouds:
    config = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=2, hidden=(16,)), network=PointwiseConfig(hidden=(16,), time_features=8), steps=3
    )
    showers = toy_showers(small_detector, 300, seed=1)
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers[:250]], [showers[250:]], seed=1)
    return model


INCIDENT = Incident("gamma", energy_mev=np.linspace(1500, 9000, 23))


def test_batches_do_not_matter(model: CaloClouds, small_detector: Detector) -> None:
    calls: list[tuple[int, int]] = []
    parts = generate(model, small_detector, INCIDENT, seed=4, batch_size=5, progress=lambda a, b: calls.append((a, b)))
    whole = generate(model, small_detector, INCIDENT, seed=4, batch_size=100)
    assert calls == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    np.testing.assert_array_equal(parts.layer_counts(), whole.layer_counts())
    np.testing.assert_allclose(parts.energy_mev, whole.energy_mev, rtol=1e-3)
    np.testing.assert_array_equal(parts.incident.energy_mev, INCIDENT.energy_mev)
    assert generate(model, small_detector, INCIDENT, seed=5).n_points != whole.n_points
    assert whole.provenance["seed"] == 4
    assert whole.provenance["model_sha256"] == model.digest()
    assert whole.provenance["flow_draws"] >= 23


def test_file_holds_the_same_showers(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    path = generate_file(model, small_detector, INCIDENT, tmp_path / "fast.h5", seed=4, batch_size=7, command="generate")
    found = Showers.open(path)
    whole = generate(model, small_detector, INCIDENT, seed=4, batch_size=7)
    np.testing.assert_array_equal(found.offsets, whole.offsets)
    np.testing.assert_array_equal(found.energy_mev, whole.energy_mev)
    assert found.provenance["command"] == "generate"
    with pytest.raises(OutputError, match="exists already"):
        generate_file(model, small_detector, INCIDENT, path)


def test_nothing_is_left_behind_by_a_failure(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        generate_file(model, small_detector, INCIDENT, tmp_path / "new" / "fast.h5", progress=fail)
    other = dataclasses.replace(small_detector, name="other")
    with pytest.raises(ModelError, match="'other'"):
        generate_file(model, other, INCIDENT, tmp_path / "fast.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_file_goes_on(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    def stop_at(where: int) -> Callable[[int, int], None]:
        def stop(done: int, total: int) -> None:
            if done >= where:
                raise KeyboardInterrupt

        return stop

    path, part = tmp_path / "fast.h5", tmp_path / "fast.h5.part"
    for where, kept in ((5, 5), (15, 15)):  # interrupted twice
        with pytest.raises(KeyboardInterrupt):
            generate_file(model, small_detector, INCIDENT, path, seed=4, batch_size=5, progress=stop_at(where))
        assert list(tmp_path.iterdir()) == [part]
        assert len(Showers.open(part)) == kept
    with pytest.raises(OutputError, match="beginning of other showers"):
        generate_file(model, small_detector, INCIDENT, path, seed=5)
    with pytest.raises(OutputError, match="beginning of other showers"):
        generate_file(model, small_detector, INCIDENT[slice(0, 22)], path, seed=4)
    assert list(tmp_path.iterdir()) == [part]
    calls: list[int] = []
    generate_file(model, small_detector, INCIDENT, path, seed=4, batch_size=5, progress=lambda done, _: calls.append(done))
    assert calls == [20, 23]
    assert list(tmp_path.iterdir()) == [path]
    generate_file(model, small_detector, INCIDENT, tmp_path / "whole.h5", seed=4, batch_size=5)
    resumed, whole = Showers.open(path), Showers.open(tmp_path / "whole.h5")
    assert same(resumed, whole)
    assert resumed.provenance == whole.provenance
    assert whole.provenance["flow_draws"] >= 23


@pytest.mark.parametrize(
    ("incident", "words"),
    [
        (Incident("gamma", energy_mev=20_000.0), "incident energy 20000 to 20000 MeV reaches outside the trained range"),
        (Incident("electron", energy_mev=2_000.0), "particles electron were not trained on"),
        (Incident("gamma", energy_mev=2_000.0, direction=[0.6, 0, 0.8]), "incident angle up to 0.644 rad"),
    ],
)
def test_outside_the_domain_is_warned_about(
    model: CaloClouds, small_detector: Detector, incident: Incident, words: str
) -> None:
    with pytest.warns(DomainWarning, match=words):
        showers = generate(model, small_detector, incident, seed=1)
    assert len(showers) == 1


def test_wrong_requests_are_refused(model: CaloClouds, small_detector: Detector) -> None:
    with pytest.raises(ModelError, match="batch_size is 0"):
        generate(model, small_detector, INCIDENT, batch_size=0)
    with pytest.raises(ModelError, match="seed -1"):
        generate(model, small_detector, INCIDENT, seed=-1)


def test_noise_streams_are_independent_and_normal() -> None:
    noise = Noise(1, range(2000)).normal(20)
    # 40,000 numbers and 2,000 pairs of neighbouring streams: five standard errors each.
    assert abs(float(noise.mean())) < 5 / np.sqrt(40_000)
    assert abs(float(noise.var()) - 1) < 5 * np.sqrt(2 / 40_000)
    assert abs(float((noise[:-1] * noise[1:]).mean())) < 5 / np.sqrt(40_000)
    counts = np.array([2, 0, 3])
    rows = Noise(2, [3, 4, 5]).normal_points(counts, 4)
    assert torch.equal(rows[2:], Noise(2, [5]).normal_points(np.array([3]), 4))
    picky = Noise(2, [3, 4, 5])
    assert torch.equal(picky.normal(4, only=np.array([1])), Noise(2, [4]).normal(4))
