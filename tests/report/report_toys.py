"""Toy showers for the report, and a real browser where there is one."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from anycalo.evaluate import evaluate
from anycalo.geometry import Detector, Layer, Rectangular, Section, Slab
from anycalo.showers import Incident, Showers

STACK = (Slab(material="G4_W", thickness_mm=5.0), Slab(material="G4_Si", thickness_mm=0.5, sensitive=True))
TOY = Detector(
    name="toy <calo>",
    sections=(Section(layers=(Layer(stack=STACK, readout=Rectangular(pitch_mm=(5.0, 5.0))),), repeat=12),),
    size_mm=(400.0, 400.0),
    threshold_mip=0.5,
)


def toy_showers(n=60, *, seed=1, width_mm=10.0, points=300, provenance=None):
    """Blobs along the axis whose energy grows with that of the particle."""
    rng = np.random.default_rng(seed)
    incident = Incident("gamma", energy_mev=rng.uniform(1e3, 5e3, n))
    return Showers(
        detector=TOY,
        incident=incident,
        offsets=np.arange(n + 1) * points,
        x_mm=rng.normal(0, width_mm, n * points),
        y_mm=rng.normal(0, 10.0, n * points),
        layer=np.clip(rng.normal(5, 2, n * points), 0, 11),
        energy_mev=rng.exponential(1e-4, n * points) * np.repeat(incident.energy_mev, points),
        provenance=provenance,
    )


@cache
def truth():
    beam = {"particle": "gamma", "energy_mev": [1e3, 5e3]}
    return toy_showers(
        seed=1,
        provenance={"generator": "Geant4", "geant4_version": "geant4-11-04-patch-01", "beam": beam, "command": "<b>run</b>"},
    )


@cache
def fast():
    return toy_showers(seed=2, width_mm=12.0, provenance={"generator": "AnyCalo toy", "model_hash": "0123456789abcdef" * 4})


@cache
def evaluation():
    return evaluate(truth(), fast(), n_bootstrap=100, metrics="none")


def browse(page: Path, profile: Path) -> str:
    """Open a page in headless Chromium and give the document back as it stands after its scripts ran."""
    chromium = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine; install the package 'chromium' to check pages in a browser")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    flags += [
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        "--enable-unsafe-swiftshader",
        "--virtual-time-budget=10000",
    ]
    done = subprocess.run(
        [chromium, *flags, f"--user-data-dir={profile}", "--window-size=1280,900", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
