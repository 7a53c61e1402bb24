"""Files of other programs, written here from their description alone, without the code under test."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

RINGS_2 = [4.65 * i for i in range(10)]


def voxels(n: int, v: int, seed: int, response: float, lit: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Incident energies in MeV, 1 GeV to 1 TeV, and voxels that hold `response` of them.

    In 45 equal layers of 0.8 X0 they are as deep as showers are: a gamma distribution about 8 X0 at 10 GeV.
    """
    rng = np.random.default_rng(seed)
    energy = 1e3 * 1e3 ** rng.random(n)
    grid = rng.exponential(size=(n, v)) * (rng.random((n, v)) < lit)
    if v % 45 == 0:
        grid *= np.repeat(depth_profile(energy, 0.8 * (np.arange(45) + 0.5)), v // 45, axis=1)
    grid *= response * energy[:, None] / np.maximum(grid.sum(axis=1, keepdims=True), 1e-9)
    return energy.astype(np.float32), grid.astype(np.float32)


def depth_profile(energy_mev: np.ndarray, depth_x0: np.ndarray) -> np.ndarray:
    """Relative energy at each depth, the mean at 8 X0 + ln(E / 10 GeV), shape (N, depths)."""
    shape = (8 + np.log(energy_mev / 1e4))[:, None] / 2
    return np.exp((shape - 1) * np.log(depth_x0) - depth_x0 / 2 - (shape - 1) * np.log(2 * shape - 2) + shape - 1)


def write_calochallenge(path: Path, energy: np.ndarray, grid: np.ndarray) -> Path:
    """As the challenge describes its files."""
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=energy.reshape(-1, 1), compression="gzip")
        file.create_dataset("showers", data=grid, compression="gzip")
    return path


def write_caloclouds(
    path: Path,
    clouds: list[np.ndarray],
    energy_gev: np.ndarray,
    direction: np.ndarray | None,
    *,
    rows_first: bool,
    front: bool = False,
) -> Path:
    """Clouds of shape (points, 4), padded with zeros at the end or at the front."""
    most = max(5, *(len(cloud) for cloud in clouds))
    events = np.zeros((len(clouds), most, 4), dtype=np.float32)
    for event, cloud in zip(events, clouds, strict=True):
        event[most - len(cloud) if front else 0 : most if front else len(cloud)] = cloud
    with h5py.File(path, "w") as file:
        file["events"] = events.transpose(0, 2, 1) if rows_first else events
        file["energy"] = energy_gev.reshape(-1, 1).astype(np.float32)
        if direction is not None:
            file["p_norm_local"] = direction.astype(np.float32)
    return path


def write_showerdata(path: Path, clouds: list[np.ndarray], energy_gev: np.ndarray, pdg: np.ndarray, columns: int = 5) -> Path:
    """Clouds of shape (points, columns), as version 0.7 of the package lays them out."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("showers", shape=(len(clouds),), dtype=h5py.vlen_dtype(np.dtype("float32")))
        for i, cloud in enumerate(clouds):
            data[i] = cloud[:, :columns].astype(np.float32).reshape(-1)
        file["energies"] = energy_gev.reshape(-1, 1).astype(np.float32)
        file["directions"] = np.tile(np.float32([0.0, 0.6, 0.8]), (len(clouds), 1))
        file["pdg"] = pdg.astype(np.int32)
        file["shower_ids"] = np.arange(len(clouds), dtype=np.int32)
        file["num_points"] = np.array([len(cloud) for cloud in clouds], dtype=np.int32)
        file["shape"] = np.array([len(clouds), max(len(cloud) for cloud in clouds), columns])
        file.attrs["showerdata_version"] = "0.7.0"
    return path


def write_lemurs(path: Path, energy: np.ndarray, grid: np.ndarray) -> Path:
    """`grid` of shape (N, 9, 16, 45): r, phi, z."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.create_dataset("showers", data=grid, compression="gzip")
        file["incident_energy"] = energy
        file["incident_theta"] = rng.uniform(0.87, 2.27, len(energy))
        file["incident_phi"] = rng.uniform(-np.pi, np.pi, len(energy))
    return path


def clouds_of(n: int, layers: int, seed: int, fifth: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    """Clouds of x, y (mm), layer number, energy (MeV) that hold 2% of the energies (GeV) returned."""
    rng = np.random.default_rng(seed)
    energy = rng.uniform(10, 90, n)
    clouds = []
    for e in energy:
        count = int(rng.integers(1, 40))
        deposits = rng.exponential(size=count) + 1e-3
        columns = [
            rng.normal(0, 15, count),
            rng.normal(0, 15, count),
            rng.integers(0, layers, count),
            deposits * 20 * e / deposits.sum(),
        ]
        clouds.append(np.stack([*columns, rng.random(count)] if fifth else columns, axis=1).astype(np.float32))
    return clouds, energy
