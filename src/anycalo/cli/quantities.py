"""Numbers with units: what the command line accepts (`10GeV`, `45deg`, `1mm`) and prints (`10 GeV`)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from anycalo.errors import CommandError

ENERGY_MEV = {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
LENGTH_MM = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0}
ANGLE_RAD = {"mrad": 1e-3, "rad": 1.0, "deg": math.pi / 180}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def _quantity(text: str, what: str, units: Mapping[str, float], example: str) -> float:
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([^\d\s]*)\s*", text)
    expected = f"expected a number with a unit ({', '.join(units)}), for example {example}"
    if match is None:
        raise CommandError(f"{what} is '{text}'; {expected}")
    number, unit = match.groups()
    if not unit:
        raise CommandError(f"{what} is '{text}', which has no unit; {expected}")
    if unit not in units:
        # 'gev' may only be 'GeV', while 'mev' may be 'MeV' or a thousandth of an eV: suggest, never guess.
        folded = {u.casefold(): u for u in units}
        close = difflib.get_close_matches(unit.casefold(), list(folded), n=1, cutoff=0.6)
        hint = f" Did you mean '{number}{folded[close[0]]}'?" if close else ""
        raise CommandError(f"{what} is '{text}', whose unit '{unit}' is not one of {', '.join(units)}.{hint}")
    value = float(number) * units[unit]
    if not math.isfinite(value):
        raise CommandError(f"{what} is '{text}', which is too large a number; {expected}")
    return value


def energy_mev(text: str) -> float:
    """An energy in MeV.

    Raises:
        CommandError: for a missing or unknown unit, or an energy that is not above 0.
    """
    value = _quantity(text, "energy", ENERGY_MEV, "10GeV")
    if value <= 0:
        raise CommandError(f"energy is '{text}'; expected above 0")
    return value


def energy_range_mev(text: str) -> tuple[float, float]:
    """Lowest and highest energy in MeV, from `10GeV:90GeV`, or one energy twice.

    Raises:
        CommandError: as `energy_mev`, and for a range that is upside down.
    """
    ends = text.split(":")
    if len(ends) > 2:
        raise CommandError(f"energy is '{text}'; expected one energy (50GeV) or a range (10GeV:90GeV)")
    low, high = energy_mev(ends[0]), energy_mev(ends[-1])
    if low > high:
        raise CommandError(f"energy is '{text}', whose lower end is the higher one; expected {ends[1]}:{ends[0]}")
    return low, high


def energies_mev(text: str) -> tuple[float, ...]:
    """Energies in MeV, from `10GeV,50GeV`.

    Raises:
        CommandError: as `energy_mev`.
    """
    return tuple(energy_mev(part) for part in text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, from `1,100`.

    Raises:
        CommandError: for anything else.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise CommandError(f"list is '{text}'; expected whole numbers of at least 1 with commas between them")
    return tuple(int(part) for part in parts)


def length_mm(text: str) -> float:
    """A length of at least 0 in millimetres.

    Raises:
        CommandError: for a missing or unknown unit, or a negative length.
    """
    value = _quantity(text, "length", LENGTH_MM, "1mm")
    if value < 0:
        raise CommandError(f"length is '{text}'; expected at least 0")
    return value


def angle_rad(text: str) -> float:
    """An angle from 0 to below 90 degrees, in radians.

    Raises:
        CommandError: for a missing or unknown unit, or an angle out of range.
    """
    value = _quantity(text, "angle", ANGLE_RAD, "30deg")
    if not 0 <= value < math.pi / 2:
        raise CommandError(f"angle is '{text}'; expected from 0deg to below 90deg, from the normal of the front face")
    return value


def position_mm(text: str) -> float:
    """A position along an axis in millimetres, of either sign.

    Raises:
        CommandError: for a missing or unknown unit.
    """
    return _quantity(text, "position", LENGTH_MM, "1804.8mm")


def origin_mm(text: str) -> tuple[float, float]:
    """Two positions `X,Y` in millimetres.

    Raises:
        CommandError: for anything else.
    """
    parts = text.split(",")
    if len(parts) != 2:
        raise CommandError(f"origin is '{text}'; expected two positions X,Y, for example 0mm,-50mm")
    return position_mm(parts[0]), position_mm(parts[1])


def turn_rad(text: str) -> float:
    """An angle to turn by, of any size and sign, in radians.

    Raises:
        CommandError: for a missing or unknown unit.
    """
    return _quantity(text, "angle", ANGLE_RAD, "30deg")


def direction(text: str) -> tuple[float, float, float]:
    """A direction `dx,dy,dz` with dz > 0, made a unit vector.

    Raises:
        CommandError: for anything else.
    """
    parts = text.split(",")
    try:
        dx, dy, dz = (float(part) for part in parts)
    except ValueError:
        raise CommandError(f"direction is '{text}'; expected three numbers dx,dy,dz, for example 0.3,0,1") from None
    norm = math.hypot(dx, dy, dz)
    if not (math.isfinite(norm) and dz > 0):
        raise CommandError(f"direction is '{text}'; expected finite numbers and dz > 0, pointing into the calorimeter")
    return dx / norm, dy / norm, dz / norm


def names(text: str) -> tuple[str, ...]:
    """The entries of a comma list.

    Raises:
        CommandError: for an empty entry.
    """
    entries = tuple(part.strip() for part in text.split(","))
    if not all(entries):
        raise CommandError(f"list is '{text}'; expected names with commas between them")
    return entries


def energy_text(mev: float) -> str:
    """An energy to read, in the largest unit that leaves a number of at least 1: 10 GeV."""
    unit = max((u for u, size in ENERGY_MEV.items() if size <= abs(mev)), key=ENERGY_MEV.__getitem__, default="MeV")
    return f"{mev / ENERGY_MEV[unit]:.4g} {unit}"


def energy_range_text(low_mev: float, high_mev: float) -> str:
    """A range of energies to read: 10 GeV to 90 GeV."""
    low, high = energy_text(low_mev), energy_text(high_mev)
    return low if low == high else f"{low} to {high}"


def _converter(parse: Callable[[str], Any]) -> Callable[[Any, Sequence[Token]], Any]:
    return lambda _, tokens: parse(tokens[0].value)


def _joined(_: Any, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(name for token in tokens for name in names(token.value))


def option(parse: Callable[[str], Any], metavar: str, show: Callable[[Any], str] | None = None) -> Parameter:
    """How cyclopts reads an option of one word, and shows its default."""
    return Parameter(
        converter=_converter(parse), n_tokens=1, metavar=metavar, negative=(), allow_leading_hyphen=True, show_default=show
    )


EnergyRange = Annotated[tuple[float, float], option(energy_range_mev, "ENERGY")]
Energies = Annotated[tuple[float, ...], option(energies_mev, "ENERGIES")]
Numbers = Annotated[tuple[int, ...], option(numbers, "NUMBERS", lambda n: ",".join(map(str, n)))]
Length = Annotated[float, option(length_mm, "LENGTH", lambda mm: f"{mm:g}mm")]
Angle = Annotated[float, option(angle_rad, "ANGLE", lambda rad: f"{math.degrees(rad):g}deg")]
Direction = Annotated[tuple[float, float, float], option(direction, "DX,DY,DZ", lambda d: ",".join(f"{c:g}" for c in d))]
Names = Annotated[tuple[str, ...], Parameter(converter=_joined, n_tokens=1, metavar="NAME", negative=(), show_default=",".join)]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
