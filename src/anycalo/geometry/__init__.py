"""Detectors: what they are made of, how they are read out, and what physics makes of that."""

from anycalo.geometry.atlas import atlas_like
from anycalo.geometry.detector import CustomMaterial, Detector, Layer, Section, Slab
from anycalo.geometry.file import presets
from anycalo.geometry.materials import Material, material
from anycalo.geometry.readouts import Edges, Hexagonal, Polar, Readout, Rectangular
from anycalo.geometry.zoo import Zoo

__all__ = [
    "CustomMaterial",
    "Detector",
    "Edges",
    "Hexagonal",
    "Layer",
    "Material",
    "Polar",
    "Readout",
    "Rectangular",
    "Section",
    "Slab",
    "Zoo",
    "atlas_like",
    "material",
    "presets",
]
