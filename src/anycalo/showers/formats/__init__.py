"""Readers and writers of the community's shower files; `docs/formats.md` describes each."""

from anycalo.showers.formats.binning import Binning, atlas_detector, binning_xml, read_binning
from anycalo.showers.formats.convert import Conversion, convert
from anycalo.showers.formats.options import Options
from anycalo.showers.formats.polar import PolarGrid, Rings
from anycalo.showers.formats.registry import FORMATS, Format, format_of

__all__ = [
    "FORMATS",
    "Binning",
    "Conversion",
    "Format",
    "Options",
    "PolarGrid",
    "Rings",
    "atlas_detector",
    "binning_xml",
    "convert",
    "format_of",
    "read_binning",
]
