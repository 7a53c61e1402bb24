"""Speed of what is done for every shower, on one thread: `make bench`.

Showers are toy photons of 1 to 10 GeV in six layers, and, where models are shipped, showers of the first of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from anycalo.evaluate import measure
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import load_model, shipped_models
from anycalo.readout import read_out
from anycalo.showers import Beam, Showers

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from samples import SMALL
from toyshowers import toy_showers

N = 200


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def showers() -> Showers:
    return toy_showers(Detector.from_toml(SMALL), N, 1)


def test_read_out(benchmark: Any, showers: Showers) -> None:
    cells = benchmark(read_out, showers)
    assert cells.n_showers == N


def test_measure_observables(benchmark: Any, showers: Showers) -> None:
    assert "visible_energy" in benchmark(measure, showers)


def test_write(benchmark: Any, showers: Showers, tmp_path: Path) -> None:
    benchmark(showers.write, tmp_path / "a.h5", overwrite=True)


def test_read(benchmark: Any, showers: Showers, tmp_path: Path) -> None:
    showers.write(tmp_path / "a.h5")
    assert len(benchmark(Showers.open, tmp_path / "a.h5")) == N


@pytest.mark.skipif(not shipped_models(), reason="no model is shipped")
@pytest.mark.parametrize("energy_gev", [10, 50, 90])
def test_generate(benchmark: Any, energy_gev: int) -> None:
    """Time for 10 showers."""
    model = load_model(next(iter(shipped_models())))
    incident = Beam(energy_mev=(1e3 * energy_gev, 1e3 * energy_gev)).sample(10, 1)
    made = benchmark.pedantic(generate, (model, model.domain.detector, incident), rounds=5, warmup_rounds=1)
    assert len(made) == 10
