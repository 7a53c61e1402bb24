"""Materials: Geant4's NIST table and what follows from it for electromagnetic showers.

The table (`nist.json`) holds density, mean excitation energy, density effect and mass fractions by
element of every material of Geant4's NIST manager; `tools/dump_nist_materials.py` wrote it. Radiation length, critical
energy, Moliere radius and the minimum energy loss are computed from these by the formulas of the
Particle Data Group.

References:
    Review of Particle Physics, Phys. Rev. D 110 (2024) 030001, section 34, "Passage of particles
    through matter" (cited below as PDG, with the name of its part).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from types import MappingProxyType
from typing import Any

import numpy as np

from anycalo.errors import DetectorError
from anycalo.geometry.detector import CustomMaterial, Detector
from anycalo.geometry.fields import InvalidField
from anycalo.geometry.file import suggest

ELECTRON_MASS_MEV = 0.51099895
MUON_MASS_MEV = 105.6583755
FINE_STRUCTURE = 1 / 137.035999
BETHE_K = 0.307075  # MeV cm2 / mol, 4 pi N_A r_e^2 m_e c^2
X0_FACTOR = 716.408  # g / cm2 / (g / mol), 1 / (4 alpha r_e^2 N_A)
SCALE_ENERGY_MEV = 21.2052  # E_s = m_e c^2 sqrt(4 pi / alpha)
GAS_BELOW_G_CM3 = 0.01  # the rule of Geant4 for a material whose state is not given; it holds for its whole NIST table

# L_rad and L'_rad for the elements too light for the Thomas-Fermi model (PDG, "Radiation length").
_TSAI_LIGHT = {1: (5.31, 6.144), 2: (4.79, 5.621), 3: (4.74, 5.805), 4: (4.71, 5.924)}

# What people write, for suggestions only.
_EVERYDAY = {
    "tungsten": "G4_W",
    "lead": "G4_Pb",
    "iron": "G4_Fe",
    "steel": "G4_STAINLESS-STEEL",
    "copper": "G4_Cu",
    "silicon": "G4_Si",
    "argon": "G4_lAr",
    "liquid argon": "G4_lAr",
    "lar": "G4_lAr",
    "krypton": "G4_lKr",
    "scintillator": "G4_PLASTIC_SC_VINYLTOLUENE",
    "plastic": "G4_PLASTIC_SC_VINYLTOLUENE",
    "air": "G4_AIR",
    "vacuum": "G4_Galactic",
    "brass": "G4_BRASS",
    "water": "G4_WATER",
    "pwo": "G4_PbWO4",
    "csi": "G4_CESIUM_IODIDE",
}


@dataclass(frozen=True, kw_only=True)
class Sternheimer:
    """Parameters of the density effect (PDG, "Density effect"): C (positive), x0, x1, a, the exponent k, delta0."""

    c: float
    x0: float
    x1: float
    a: float
    m: float = 3.0
    delta0: float = 0.0

    @classmethod
    def general(cls, mean_excitation_ev: float, plasma_ev: float, *, gas: bool) -> Sternheimer:
        """Parameters of a material that nobody has fitted; dE/dx at the minimum is within 3% of the fitted one for all of NIST.

        References:
            R. M. Sternheimer and R. F. Peierls, Phys. Rev. B 3 (1971) 3681.
        """
        c = 2 * math.log(mean_excitation_ev / plasma_ev) + 1
        if gas:
            steps = ((10.0, 1.6), (10.5, 1.7), (11.0, 1.8), (11.5, 1.9), (13.804, 2.0))
            x0, x1 = next((x for limit, x in steps if c < limit), 0.326 * c - 2.5), 4.0 if c < 12.25 else 5.0
            x1 = max(x1, x0 + 1.0)  # in a near vacuum x0 grows past any fixed x1
        elif mean_excitation_ev < 100:
            x0, x1 = (0.2, 2.0) if c < 3.681 else (0.326 * c - 1.0, 2.0)
        else:
            x0, x1 = (0.2, 3.0) if c < 5.215 else (0.326 * c - 1.5, 3.0)
        return cls(c=c, x0=x0, x1=x1, a=(c - 2 * math.log(10) * x0) / (x1 - x0) ** 3)


@dataclass(frozen=True, kw_only=True)
class Material:
    """A homogeneous material.

    Args:
        name: as in the detector file.
        density_g_cm3: mass density.
        mass_fractions: (atomic number, fraction by weight), the fractions adding up to 1.
        mean_excitation_ev: mean excitation energy I.
        sternheimer: its density effect.
    """

    name: str
    density_g_cm3: float
    mass_fractions: tuple[tuple[int, float], ...]
    mean_excitation_ev: float
    sternheimer: Sternheimer

    @property
    def is_gas(self) -> bool:
        """Whether it is a gas, told from its density as Geant4 does."""
        return self.density_g_cm3 < GAS_BELOW_G_CM3

    @cached_property
    def z_over_a(self) -> float:
        """Electrons per unit of mass <Z/A> [mol/g]."""
        return sum(w * z / atomic_mass(z) for z, w in self.mass_fractions)

    @cached_property
    def x0_g_cm2(self) -> float:
        """Radiation length X0 as mass per area: 1/X0 = sum_j w_j / X_j (PDG, "Radiation length")."""
        return 1 / sum(w / element_x0_g_cm2(z) for z, w in self.mass_fractions)

    @property
    def x0_mm(self) -> float:
        """Radiation length X0 [mm]."""
        return 10 * self.x0_g_cm2 / self.density_g_cm3

    @cached_property
    def effective_z(self) -> float:
        """Mean atomic number, each element weighted by its share of the radiation lengths."""
        return self.x0_g_cm2 * sum(w * z / element_x0_g_cm2(z) for z, w in self.mass_fractions)

    @cached_property
    def critical_energy_mev(self) -> float:
        """Critical energy E_c of electrons in the sense of Rossi: the loss by ionisation in one X0 equals the energy.

        Elements follow PDG's fits, 610 MeV / (Z + 1.24) for solids and liquids and 710 MeV / (Z + 0.92)
        for gases (PDG, "Critical energy"). Compounds take the mean weighted by the share of radiation lengths,
        E_c = X0 sum_j w_j E_cj / X_j, which is what PDG's rule for the Moliere radius of a mixture implies.
        """
        top, shift = (710.0, 0.92) if self.is_gas else (610.0, 1.24)
        return self.x0_g_cm2 * sum(w / element_x0_g_cm2(z) * top / (z + shift) for z, w in self.mass_fractions)

    @property
    def moliere_mm(self) -> float:
        """Moliere radius R_M = X0 E_s / E_c with E_s = 21.2 MeV [mm] (PDG, "Electromagnetic cascades")."""
        return self.x0_mm * SCALE_ENERGY_MEV / self.critical_energy_mev

    def density_effect(self, beta_gamma: np.ndarray) -> np.ndarray:
        """Density-effect correction delta(beta gamma) in Sternheimer's form (PDG, "Density effect")."""
        p = self.sternheimer
        x = np.log10(beta_gamma)
        below = p.delta0 * 10 ** (2 * (np.minimum(x, p.x0) - p.x0))
        above = 2 * math.log(10) * x - p.c + p.a * np.clip(p.x1 - x, 0, None) ** p.m
        return np.asarray(np.where(x < p.x0, below, above))

    def muon_loss_mev_per_cm(self, beta_gamma: np.ndarray) -> np.ndarray:
        """Mean energy loss of a muon by ionisation, Bethe's equation with density effect (PDG).

        Args:
            beta_gamma: momentum over mass, any shape.

        Returns:
            dE/dx in MeV/cm, of the same shape.
        """
        gamma = np.sqrt(1 + beta_gamma**2)
        beta2 = (beta_gamma / gamma) ** 2
        ratio = ELECTRON_MASS_MEV / MUON_MASS_MEV
        w_max = 2 * ELECTRON_MASS_MEV * beta_gamma**2 / (1 + 2 * gamma * ratio + ratio**2)
        i_mev = self.mean_excitation_ev * 1e-6
        log = 0.5 * np.log(2 * ELECTRON_MASS_MEV * beta_gamma**2 * w_max / i_mev**2)
        loss = BETHE_K * self.z_over_a / beta2 * (log - beta2 - self.density_effect(beta_gamma) / 2)
        return np.asarray(self.density_g_cm3 * loss)

    @cached_property
    def mip_mev_per_cm(self) -> float:
        """Energy loss of a minimum ionising particle: the minimum of `muon_loss_mev_per_cm` [MeV/cm]."""
        return float(self.muon_loss_mev_per_cm(np.geomspace(1.5, 10.0, 400)).min())


@cache
def _table() -> Mapping[str, Any]:
    text = (resources.files("anycalo.geometry") / "nist.json").read_text("utf-8")
    return MappingProxyType(json.loads(text))


def nist_names() -> tuple[str, ...]:
    """Every name of the NIST table, in its order."""
    return tuple(_table()["materials"])


def atomic_mass(z: int) -> float:
    """Atomic mass A of an element in its natural composition [g/mol]."""
    return float(_table()["elements"][str(z)][1])


@cache
def _atomic_numbers() -> Mapping[str, int]:
    return MappingProxyType({symbol: int(z) for z, (symbol, _) in _table()["elements"].items()})


@cache
def element_x0_g_cm2(z: int) -> float:
    """Radiation length of an element after Tsai (PDG, "Radiation length") [g/cm2]."""
    a2 = (FINE_STRUCTURE * z) ** 2
    coulomb = a2 * (1 / (1 + a2) + 0.20206 - 0.0369 * a2 + 0.0083 * a2**2 - 0.002 * a2**3)
    l_rad, l_rad_prime = _TSAI_LIGHT.get(z, (math.log(184.15 * z ** (-1 / 3)), math.log(1194 * z ** (-2 / 3))))
    return X0_FACTOR * atomic_mass(z) / (z**2 * (l_rad - coulomb) + z * l_rad_prime)


@cache
def _nist(name: str) -> Material:
    row = _table()["materials"][name]
    fractions = {int(z): w for z, w in row["mass_fractions"].items()}
    total = sum(fractions.values())
    return Material(
        name=name,
        density_g_cm3=row["density_g_cm3"],
        mass_fractions=tuple((z, w / total) for z, w in sorted(fractions.items())),
        mean_excitation_ev=row["mean_excitation_ev"],
        sternheimer=Sternheimer(**dict(zip(("c", "x0", "x1", "a", "m", "delta0"), row["density_effect"], strict=True))),
    )


def _mixed(name: str, custom: CustomMaterial) -> Material:
    """A custom material: element fractions by weight, I by Bragg's additivity (PDG, "Energy loss in mixtures and compounds").

    ln I is the mean over the parts weighted by their electrons, with the measured I of each part.
    """
    fractions: dict[int, float] = {}
    log_i = electrons = 0.0
    for part_name, weight in custom.mass_fractions.items():
        part = _nist(part_name)
        for z, w in part.mass_fractions:
            fractions[z] = fractions.get(z, 0.0) + weight * w
        log_i += weight * part.z_over_a * math.log(part.mean_excitation_ev)
        electrons += weight * part.z_over_a
    i_ev, density = math.exp(log_i / electrons), custom.density_g_cm3
    # Plasma energy: 28.816 eV sqrt(rho <Z/A>) with rho in g/cm3.
    plasma_ev = 28.816 * math.sqrt(density * electrons)
    return Material(
        name=name,
        density_g_cm3=density,
        mass_fractions=tuple(sorted(fractions.items())),
        mean_excitation_ev=i_ev,
        sternheimer=Sternheimer.general(i_ev, plasma_ev, gas=density < GAS_BELOW_G_CM3),
    )


def material(source: Detector | Mapping[str, CustomMaterial], name: str) -> Material:
    """The material of that name.

    Args:
        source: the detector, or its own materials by name (`{}` for NIST names alone).
        name: a material that the source defines, or a Geant4 NIST name.

    Raises:
        DetectorError: if there is none of that name.

    Example:
        >>> round(material({}, "G4_W").x0_mm, 2)
        3.5
    """
    customs = source.materials if isinstance(source, Detector) else source
    if name in customs:
        return _mixed(name, customs[name])
    if name not in _table()["materials"]:
        raise DetectorError(_unknown(name, customs))
    return _nist(name)


def mass_fractions_of_atoms(atoms: Mapping[str, int]) -> dict[str, float]:
    """Fractions by weight of a compound given by its formula, `{"Pb": 1, "W": 1, "O": 4}`, keyed by NIST name.

    Raises:
        InvalidField: for an unknown element, or a number of atoms that is not above 0.
    """
    if not isinstance(atoms, Mapping) or not atoms:
        raise InvalidField("atoms", f"atoms is {atoms!r}; expected elements and numbers, such as {{ Pb = 1, W = 1, O = 4 }}")
    weights = {}
    for symbol, number in atoms.items():
        if symbol not in _atomic_numbers():
            message = f"atoms names '{symbol}'; expected the symbol of an element, such as Pb."
            raise InvalidField(("atoms", symbol), message + suggest(symbol, _atomic_numbers()))
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not (math.isfinite(number) and number > 0):
            raise InvalidField(("atoms", symbol), f"atoms.{symbol} is {number!r}; expected a number above 0")
        weights[f"G4_{symbol}"] = number * atomic_mass(_atomic_numbers()[symbol])
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _unknown(name: str, customs: Mapping[str, CustomMaterial]) -> str:
    known = {k.lower(): k for k in (*nist_names(), *customs)}
    low = name.lower()
    meant = _EVERYDAY.get(low) or known.get(low) or known.get(f"g4_{low}")
    hint = f" Did you mean '{meant}'?" if meant else suggest(name, known.values())
    defined = f"; here: {', '.join(customs)}" if customs else ""
    return (
        f"material '{name}' is unknown.{hint} Expected a Geant4 NIST name such as 'G4_Pb',"
        f' or a material of the detector itself: [materials."{name}"] with density_g_cm3 and mass_fractions or atoms{defined}.'
    )


def check_materials(detector: Detector) -> None:
    """Refuse a detector that names a material which neither it nor the NIST table defines.

    Raises:
        InvalidField: with the place in the detector as its key.
    """
    customs, nist = detector.materials, _table()["materials"]
    for name, custom in customs.items():
        if not isinstance(custom, CustomMaterial):
            raise InvalidField(("materials", name), f"materials['{name}'] is {custom!r}; expected a CustomMaterial")
        if name in nist:
            raise InvalidField(("materials", name), f"material '{name}' has the name of a NIST material; expected another name")
        for part in custom.mass_fractions:
            if part not in nist:
                message = f"mass_fractions of '{name}' names '{part}'; expected Geant4 NIST names.{suggest(part, nist)}"
                raise InvalidField(("materials", name, "mass_fractions", part), message)
    if detector.world_material not in customs and detector.world_material not in nist:
        raise InvalidField("world_material", f"world_{_unknown(detector.world_material, customs)}")
    for i, section in enumerate(detector.sections):
        for j, layer in enumerate(section.layers):
            for k, slab in enumerate(layer.stack):
                if slab.material not in customs and slab.material not in nist:
                    where = f"section {i + 1}, layer {j + 1}, slab {k + 1}"
                    key = ("section", i, "layer", j, "stack", k, "material")
                    raise InvalidField(key, f"{where}: {_unknown(slab.material, customs)}")
