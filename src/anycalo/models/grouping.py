"""The showers of a detector as another would see them, without new simulation: layers read out together, other cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anycalo.geometry import Detector
from anycalo.geometry.detector import Layer, Section
from anycalo.geometry.readouts import Rectangular
from anycalo.showers import Showers


def with_cells(showers: Showers, cell_mm: float) -> Showers:
    """The same showers in the same detector, with square cells of this side [mm]."""
    return showers.seen_by(showers.detector.with_readout(Rectangular(pitch_mm=(cell_mm, cell_mm))))


def grouped(showers: Showers, plates: int) -> Showers:
    """The same showers in the same detector, with up to `plates` neighbouring equal layers of a section read out together.

    Sections of more than one kind of layer are left as they are.

    Args:
        showers: B showers.
        plates: how many layers become one, at least 1; what is left over at the end of a section becomes a thinner layer.
    """
    detector = showers.detector
    sections: list[Section] = []
    layer_of: list[int] = []
    count = 0
    for section in detector.sections:
        if len(section.layers) > 1:
            sections.append(section)
            layer_of += range(count, count + section.repeat * len(section.layers))
            count += section.repeat * len(section.layers)
            continue
        layer = section.layers[0]
        whole, left = divmod(section.repeat, plates)
        for repeat, size in ((whole, plates), (1, left)):
            if repeat and size:
                group = Layer(stack=layer.stack, stack_repeat=layer.stack_repeat * size, readout=layer.readout)
                sections.append(Section(repeat=repeat, layers=(group,)))
                layer_of += np.repeat(np.arange(count, count + repeat), size).tolist()
                count += repeat
    coarse: Detector = replace(detector, name=f"{detector.name}-by-{plates}", sections=tuple(sections))
    return showers.seen_by(coarse, np.array(layer_of)[showers.layer])
