"""Numbers with units: read, printed, and refused when in doubt."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.cli import quantities as q
from anycalo.errors import CommandError


@pytest.mark.parametrize(
    ("text", "mev"),
    [("10GeV", 1e4), ("500MeV", 500), ("500 MeV", 500), ("1.5TeV", 1.5e6), ("1e3keV", 1), ("2.5e+2eV", 2.5e-4), (".5GeV", 500)],
)
def test_energies(text: str, mev: float) -> None:
    assert q.energy_mev(text) == pytest.approx(mev, rel=1e-12)


def test_ranges() -> None:
    assert q.energy_range_mev("10GeV:90GeV") == (1e4, 9e4)
    assert q.energy_range_mev("500MeV:1GeV") == (500, 1000)
    assert q.energy_range_mev("50GeV") == (5e4, 5e4)


def test_lengths_and_angles() -> None:
    assert q.length_mm("1mm") == 1
    assert q.length_mm("0.1 cm") == pytest.approx(1)
    assert q.length_mm("200um") == pytest.approx(0.2)
    assert q.length_mm("0mm") == 0
    assert q.angle_rad("45deg") == pytest.approx(math.pi / 4)
    assert q.angle_rad("0.3rad") == 0.3
    assert q.angle_rad("50mrad") == pytest.approx(0.05)


def test_directions_become_unit_vectors() -> None:
    assert q.direction("0,0,1") == (0, 0, 1)
    assert q.direction("3, 0, 4") == pytest.approx((0.6, 0, 0.8))
    assert q.direction("-1,0,1")[0] == pytest.approx(-math.sqrt(0.5))


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (q.energy_mev, "10", "energy is '10', which has no unit; expected a number with a unit .*for example 10GeV"),
        (q.energy_mev, "10gev", "unit 'gev' is not one of eV, keV, MeV, GeV, TeV. Did you mean '10GeV'?"),
        (q.energy_mev, "10mm", "unit 'mm' is not one of"),
        (q.energy_mev, "GeV", "energy is 'GeV'; expected a number"),
        (q.energy_mev, "ten GeV", "energy is 'ten GeV'; expected a number"),
        (q.energy_mev, "-1GeV", "energy is '-1GeV'; expected above 0"),
        (q.energy_mev, "0GeV", "expected above 0"),
        (q.energy_mev, "nanGeV", "expected a number"),
        (q.energy_mev, "1e999GeV", "too large"),
        (q.energy_range_mev, "10:90GeV", "energy is '10', which has no unit"),
        (q.energy_range_mev, "90GeV:10GeV", "lower end is the higher one; expected 10GeV:90GeV"),
        (q.energy_range_mev, "1GeV:2GeV:3GeV", "expected one energy .* or a range"),
        (q.energy_range_mev, "", "expected a number"),
        (q.length_mm, "1", "has no unit"),
        (q.length_mm, "-1mm", "expected at least 0"),
        (q.length_mm, "1GeV", "unit 'GeV' is not one of um, mm, cm, m"),
        (q.angle_rad, "30", "has no unit"),
        (q.angle_rad, "90deg", "expected from 0deg to below 90deg"),
        (q.angle_rad, "-1deg", "expected from 0deg to below 90deg"),
        (q.direction, "0,0", "expected three numbers dx,dy,dz"),
        (q.direction, "0,a,1", "expected three numbers"),
        (q.direction, "0,0,-1", "expected finite numbers and dz > 0"),
        (q.direction, "1,0,0", "dz > 0"),
        (q.direction, "nan,0,1", "finite"),
        (q.names, "gamma,,electron", "expected names with commas between them"),
    ],
)
def test_what_is_wrong_is_said(parse, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CommandError, match=message.replace("?", r"\?").replace(".*", ".*")):
        parse(text)


@given(st.floats(1e-9, 1e9))
def test_a_printed_energy_reads_back(mev: float) -> None:
    assert q.energy_mev(q.energy_text(mev)) == pytest.approx(mev, rel=1e-3)


def test_printed_energies() -> None:
    printed = [q.energy_text(v) for v in (5e4, 0.5, 1.0, 12.345, 2e6, 0.0)]
    assert printed == ["50 GeV", "500 keV", "1 MeV", "12.35 MeV", "2 TeV", "0 MeV"]
    assert q.energy_range_text(1e4, 9e4) == "10 GeV to 90 GeV"
    assert q.energy_range_text(5e4, 5e4) == "50 GeV"


def outcome(parse: Callable[[str], float], text: str) -> float | str:
    try:
        return parse(text)
    except CommandError as error:
        return str(error)


@given(st.text(max_size=12) | st.from_regex(r"[-+0-9.e]{1,6} ?(GeV|mm|deg|rad|m)?", fullmatch=True))
def test_no_text_breaks_the_parsers(text: str) -> None:
    """Anything is either a number that makes sense, or refused with a message that quotes it."""
    for parse in (q.energy_mev, q.length_mm, q.angle_rad):
        found = outcome(parse, text)
        assert f"'{text}'" in found if isinstance(found, str) else 0 <= found < math.inf
