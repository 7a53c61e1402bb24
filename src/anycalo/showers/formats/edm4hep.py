"""EDM4hep: calorimeter hits of full simulations, in ROOT files (needs the extra `root`: uproot and awkward).

Read from the TTree `events`: `NAME.energy` (GeV) and `NAME.position.x`, `.y`, `.z` (mm) of SimCalorimeterHit
collections, and the first particle of `MCParticles` that the generator made (status 1). Positions are those of cells; each
is one point. A rotation about the file's z axis and the choice of a depth axis bring them to the shower frame; the
origin is where the particle's straight line meets the front face.

Written is a TTree `events` with the branches of the same names, flat and not split from a C++ class:
uproot, awkward, RDataFrame and this reader read it; podio, which wants its own metadata and class
dictionaries, does not.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.showers.formats.depth import FRAME, find_placement
from anycalo.showers.formats.options import Options
from anycalo.showers.formats.points import OUTSIDE, showers_of_points
from anycalo.showers.formats.source import Reader, finite
from anycalo.showers.formats.target import Writer
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

NAME = "edm4hep"
MAGIC = b"root"
_TREE, _PARTICLES, _WRITTEN = "events", "MCParticles", "SimCalorimeterHits"
_MASS_GEV = {22: 0.0, 11: 0.51099895e-3, -11: 0.51099895e-3, 211: 0.13957039, -211: 0.13957039}
_BLOCK = 500
_XYZ = ("x", "y", "z")


def _libraries() -> tuple[Any, Any]:
    try:
        import awkward
        import uproot
    except ImportError as error:
        raise ConversionError(f"ROOT files need {error.name}, which is not installed: pip install 'anycalo[root]'") from error
    return uproot, awkward


def recognise(path: Path) -> str | None:
    """The format's name, if the file is a ROOT file."""
    with path.open("rb") as file:
        return NAME if file.read(4) == MAGIC else None


class Edm4hepReader(Reader):
    """Hits as points, in the layers that their depth says.

    Args:
        path: of the file.
        options: `detector`, `collection` (the only one by default), `depth`, `face_mm`, `origin_mm`, `rotation_rad`,
            `check_response`.

    Raises:
        ShowerFileError: if the file is cut, of another layout, or does not fit the detector.
        ConversionError: without uproot, or without a detector.
    """

    def __init__(self, path: Path, options: Options) -> None:
        if options.detector is None:
            raise ConversionError("an EDM4hep file does not describe its layers; give the detector")
        detector = options.detector
        uproot, self._awkward = _libraries()
        if not path.is_file():
            raise ShowerFileError(f"{path}: no such file; expected a ROOT file with a TTree '{_TREE}'")
        # Whatever uproot finds wrong, it says in an exception of its own choosing.
        try:
            self._file = uproot.open(path)
        except Exception as error:
            raise ShowerFileError(f"{path}: not a ROOT file, or cut off: {error}") from error
        try:
            self._tree = self._events(path)
            self._branches = {key.rsplit("/", 1)[-1]: key for key in self._tree.keys(recursive=True)}
            self._collections = self._choose(path, options.collection)
            self._turn = options.rotation_rad
            length = int(self._tree.num_entries)
            if not length:
                raise ShowerFileError(f"{path}: holds no shower")
            probe = self._hits(0, min(_BLOCK, length))
            self._placement = find_placement(
                path,
                detector,
                probe[1],
                probe[2],
                depth=options.depth,
                face_mm=options.face_mm,
                origin_mm=options.origin_mm,
            )
            self._face = options.face_mm or 0.0
            self._entry = options.origin_mm is None
        except Exception:
            self._file.close()
            raise
        turned = f", after a turn of {math.degrees(self._turn):g} degrees about z" if self._turn else ""
        super().__init__(
            path,
            detector,
            length=length,
            block=_BLOCK,
            provenance={
                "collections": ", ".join(self._collections),
                "positions": self._placement.words() + turned,
                "origin": "where the particle's straight line meets the face" if self._entry else "as given",
                "points": "cells: one at the position of each hit",
            },
            expected_response=sampling_fraction(detector) if options.check_response else None,
            suspects=(
                (1e3, "hits were in TeV instead of GeV"),
                (1e-3, "hits were in MeV instead of GeV, the unit of EDM4hep"),
                (1 / sampling_fraction(detector), "hits were scaled down by a sampling fraction"),
                (sampling_fraction(detector), "hits were calibrated to the incident energy"),
            ),
        )

    def _events(self, path: Path) -> Any:
        keys = sorted(self._file.keys(cycle=False))
        if _TREE not in keys:
            raise ShowerFileError(f"{path}: there is no '{_TREE}'; it holds {', '.join(keys) or 'nothing'}")
        tree = self._file[_TREE]
        if not hasattr(tree, "branches"):
            raise ShowerFileError(
                f"{path}: '{_TREE}' is a {type(tree).__name__}; expected a TTree. Write it with podio's TTree backend."
            )
        return tree

    def _choose(self, path: Path, asked: str | None) -> tuple[str, ...]:
        names = {name.removesuffix(".energy") for name in self._branches if name.endswith(".energy")}
        # Flat files hold a branch 'nX.energy' with the lengths of 'X.energy'.
        counters = {f"n{name}" for name in names}
        hits = sorted(name for name in names - counters if f"{name}.position.x" in self._branches)
        chosen = tuple(part.strip() for part in asked.split(",")) if asked else tuple(hits)
        listed = ", ".join(hits) or "none"
        if not asked and len(hits) != 1:
            raise ShowerFileError(f"{path}: {len(hits)} collections of calorimeter hits ({listed}); give the collection")
        for name in chosen:
            if name not in hits:
                raise ShowerFileError(f"{path}: no collection of calorimeter hits '{name}'; there are {listed}")
        return chosen

    def _array(self, name: str, start: int, stop: int) -> Any:
        if name not in self._branches:
            raise ShowerFileError(f"{self._file.file_path}: branch '{name}' is missing")
        try:
            return self._tree[self._branches[name]].array(entry_start=start, entry_stop=stop)
        except Exception as error:
            raise ShowerFileError(f"{self._file.file_path}: branch '{name}' is damaged: {error}") from error

    def _vectors(self, name: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts and turned vectors (P, 3) of a branch with .x, .y and .z."""
        parts = [self._array(f"{name}.{axis}", start, stop) for axis in _XYZ]
        x, y, z = (np.asarray(self._awkward.flatten(part), dtype=np.float64) for part in parts)
        cos, sin = math.cos(self._turn), math.sin(self._turn)
        return np.asarray(self._awkward.num(parts[0])), np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)

    def _hits(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shower, position and energy in MeV of every hit, showers ascending."""
        showers, places, energies = [], [], []
        for name in self._collections:
            counts, xyz = self._vectors(f"{name}.position", start, stop)
            energy = np.asarray(self._awkward.flatten(self._array(f"{name}.energy", start, stop)), dtype=np.float64)
            showers.append(np.repeat(np.arange(stop - start), counts))
            places.append(xyz)
            energies.append(1e3 * finite(Path(self._file.file_path), f"{name}.energy", energy, start))
        shower = np.concatenate(showers)
        order = np.argsort(shower, kind="stable")
        return shower[order], np.concatenate(places)[order], np.concatenate(energies)[order]

    def _particles(self, start: int, stop: int) -> tuple[Incident, np.ndarray]:
        """The particles, and where they cross the face in x and y of the shower frame, shape (B, 2)."""
        codes = self._array(f"{_PARTICLES}.PDG", start, stop)
        counts = np.asarray(self._awkward.num(codes))
        if (counts == 0).any():
            raise ShowerFileError(
                f"{self._file.file_path}: shower {start + int(np.argmin(counts))} has no particle in {_PARTICLES}"
            )
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        if f"{_PARTICLES}.generatorStatus" in self._branches:
            made = self._array(f"{_PARTICLES}.generatorStatus", start, stop) == 1
            local = np.asarray(self._awkward.fill_none(self._awkward.argmax(made, axis=1), 0))
            first = first + local
        pdg = np.asarray(self._awkward.flatten(codes))[first]
        momentum = self._vectors(f"{_PARTICLES}.momentum", start, stop)[1][first]
        size = np.linalg.norm(momentum, axis=1)
        if (size == 0).any():
            raise ShowerFileError(
                f"{self._file.file_path}: the particle of shower {start + int(np.argmin(size))} has no momentum"
            )
        mass = np.array([_MASS_GEV.get(int(code), 0.0) for code in pdg])
        kinetic = 1e3 * (np.hypot(size, mass) - mass)
        frame = list(FRAME[self._placement.axis])
        direction = (momentum / size[:, None])[:, frame]
        incident = Incident(pdg, energy_mev=kinetic, direction=direction)
        entry = np.zeros((len(pdg), 2))
        if self._entry and f"{_PARTICLES}.vertex.x" in self._branches:
            vertex = self._vectors(f"{_PARTICLES}.vertex", start, stop)[1][first][:, frame]
            way = (self._face - vertex[:, 2]) / direction[:, 2]
            entry = vertex[:, :2] + way[:, None] * direction[:, :2]
        return incident, entry

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop."""
        incident, entry = self._particles(start, stop)
        shower, xyz, energy = self._hits(start, stop)
        self.read_mev += float(energy.sum())
        showers, lost = showers_of_points(
            self.detector, incident, self._placement, shower=shower, xyz=xyz, energy_mev=energy, origin_mm=entry
        )
        self._lose(OUTSIDE, lost)
        return showers

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Edm4hepWriter(Writer):
    """Points as hits of a collection `SimCalorimeterHits`: depth along z, the face at z = 0, mm and GeV.

    Args:
        path: of the file to be.
        detector: of the showers.
        provenance: written as the string `anycalo_provenance`, beside `anycalo_detector`.
        overwrite: replace a file of that name.

    Raises:
        ConversionError: without uproot.
    """

    def __init__(self, path: Path, detector: Detector, provenance: dict[str, Any], *, overwrite: bool) -> None:
        uproot, self._awkward = _libraries()
        super().__init__(path, overwrite=overwrite)
        self._z = detector.layer_z_mm
        self._file = uproot.recreate(self.temporary)
        self._file["anycalo_provenance"] = json.dumps(provenance)
        self._file["anycalo_detector"] = detector.to_toml()
        hit = {"cellID": "uint64", "energy": "float32", **{f"position.{axis}": "float32" for axis in _XYZ}}
        particle = {"PDG": "int32", "generatorStatus": "int32", "mass": "float64"}
        particle |= {f"{what}.{axis}": "float64" for what in ("vertex", "momentum") for axis in _XYZ}
        self._tree = self._file.mktree(
            _TREE,
            {_WRITTEN: _jagged(hit), _PARTICLES: _jagged(particle)},
            field_name=lambda outer, inner: f"{outer}.{inner}" if inner else outer,
            counter_name=lambda counted: f"n{counted}",
        )

    def append(self, showers: Showers) -> None:
        """Add showers at the end; the cellID of a hit is the number of its layer."""
        incident = showers.incident
        mass = np.array([_MASS_GEV[int(code)] for code in incident.pdg])
        kinetic = incident.energy_mev.astype(np.float64) / 1e3
        direction = incident.direction.astype(np.float64)
        momentum = direction * np.sqrt(kinetic * (kinetic + 2 * mass))[:, None]
        hit = {
            "cellID": showers.layer.astype(np.uint64),
            "energy": (showers.energy_mev / np.float32(1e3)),
            "position.x": showers.x_mm,
            "position.y": showers.y_mm,
            "position.z": self._z[showers.layer].astype(np.float32),
        }
        ones = np.ones(len(showers), dtype=np.int32)
        particle = {"PDG": incident.pdg, "generatorStatus": ones, "mass": mass}
        particle |= {f"vertex.{axis}": np.zeros(len(showers)) for axis in _XYZ}
        particle |= {f"momentum.{axis}": momentum[:, i] for i, axis in enumerate(_XYZ)}
        ak = self._awkward
        self._tree.extend(
            {_WRITTEN: ak.unflatten(ak.Array(hit), showers.counts), _PARTICLES: ak.unflatten(ak.Array(particle), ones)}
        )

    def finish(self) -> None:
        """Close the file."""
        self._file.close()

    def release(self) -> None:
        """Close the file as it is."""
        self._file.close()


def _jagged(fields: dict[str, str]) -> str:
    return "var * {" + ", ".join(f'"{name}": {kind}' for name, kind in fields.items()) + "}"
