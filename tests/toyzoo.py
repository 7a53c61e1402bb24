"""Small detectors of different make, as strings of layers, for what is told of geometry."""

from __future__ import annotations

from anycalo.geometry import Detector
from anycalo.geometry.detector import Layer, Section, Slab
from anycalo.geometry.readouts import Rectangular

READOUT = Rectangular(pitch_mm=(5.0, 5.0))


def stack(
    layers: int,
    absorber_mm: float,
    *,
    absorber: str = "G4_W",
    sensor: str = "G4_Si",
    sensor_mm: float = 0.5,
    name: str = "stack",
    field_tesla: float = 0.0,
) -> Detector:
    """Equal layers of one absorber and one sensor."""
    slabs = (
        Slab(material=absorber, thickness_mm=absorber_mm),
        Slab(material=sensor, thickness_mm=sensor_mm, sensitive=True),
    )
    section = Section(repeat=layers, layers=(Layer(stack=slabs, readout=READOUT),))
    return Detector(name=name, sections=(section,), size_mm=(400.0, 400.0), field_tesla=field_tesla)


def toy_zoo() -> list[Detector]:
    """Four detectors of 5 to 10 layers."""
    return [
        stack(6, 5.0, name="a"),
        stack(8, 6.0, absorber="G4_Pb", sensor="G4_PLASTIC_SC_VINYLTOLUENE", sensor_mm=3.0, name="b", field_tesla=2.0),
        stack(10, 8.0, absorber="G4_Fe", sensor_mm=0.3, name="c", field_tesla=1.0),
        stack(5, 7.0, absorber="G4_Cu", sensor="G4_lAr", sensor_mm=4.0, name="d", field_tesla=3.5),
    ]
