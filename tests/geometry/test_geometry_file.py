"""Detector files: what is written reads back, and what is wrong is refused at its line."""

import re
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycalo.errors import DetectorError
from anycalo.geometry import (
    CustomMaterial,
    Detector,
    Edges,
    Hexagonal,
    Layer,
    Polar,
    Readout,
    Rectangular,
    Section,
    Slab,
    presets,
)
from anycalo.geometry.file import line_of

DOCS = Path(__file__).parents[2] / "docs" / "detector-file.md"

GOOD = """\
# A comment with { braces } and [brackets] = 1
name = "mine"
description = "a { curly } # not a comment"
size_mm = [500.0, 500.0]
field_tesla = 2.0

[readout]
kind = "rectangular"
pitch_mm = [5.0, 5.0]

[materials.Board]
density_g_cm3 = 1.85
mass_fractions = { G4_SILICON_DIOXIDE = 0.6, G4_POLYSTYRENE = 0.4 }

[materials."PWO 4.1"]
density_g_cm3 = 8.28
atoms = { Pb = 1, W = 1, O = 4 }

[[section]]
repeat = 3

[[section.layer]]
stack = [
    { material = "G4_W", thickness_mm = 2.0 },  # { a comment }
    { material = "G4_Si", thickness_mm = 0.5, sensitive = true },
    { material = "Board", thickness_mm = 1.0 },
]

[[section.layer]]
stack_repeat = 2
stack = [
    { material = "PWO 4.1", thickness_mm = 1.0, sensitive = true },
    { material = "G4_AIR", thickness_mm = 0.2 },
]
readout = { kind = "edges", x_edges_mm = [-10.0, 0.0, 20.0], y_edges_mm = [-5.0, 5.0] }
"""


def test_the_good_file_is_good() -> None:
    d = Detector.from_toml(GOOD)
    assert d.n_layers == 6
    assert d.layers[0].readout == Rectangular(pitch_mm=(5, 5))
    assert d.layers[1].readout == Edges(x_edges_mm=(-10, 0, 20), y_edges_mm=(-5, 5))
    assert d.layer_thickness_mm.tolist() == pytest.approx([3.5, 2.4] * 3)
    assert d.layer_z_mm[:2].tolist() == pytest.approx([2.25, 3.5 + (0.5 + 1.7) / 2])
    assert set(d.materials["PWO 4.1"].mass_fractions) == {"G4_Pb", "G4_W", "G4_O"}
    assert Detector.from_toml(d.to_toml()) == d


# what is replaced, by what, the line of the complaint, what it says
WRONG = [
    ("thickness_mm = 0.5,", "thickness_cm = 0.05,", "unknown key 'thickness_cm' in slab. Did you mean 'thickness_mm'?"),
    ("thickness_mm = 0.2", "thickness_mm = -0.2", "thickness_mm is -0.2; expected a number above 0"),
    ("thickness_mm = 0.2", "thickness_mm = 0", "thickness_mm is 0; expected a number above 0"),
    ("thickness_mm = 1.0 },\n]", "thickness_mm = nan },\n]", "thickness_mm is nan; expected a finite number"),
    ("thickness_mm = 0.2", 'thickness_mm = "2 mm"', "thickness_mm is '2 mm'; expected a finite number (units are in the name"),
    (
        'material = "G4_Si"',
        'material = "G4_SI"',
        "layer 1, slab 2: material 'G4_SI' is unknown. Did you mean 'G4_Si'?",
    ),
    ('material = "Board", t', 'material = "board", t', "slab 3: material 'board' is unknown. Did you mean 'Board'?"),
    ('material = "G4_AIR"', 'material = ""', "material is ''; expected text"),
    ("0.5, sensitive = true", "0.5, sensitive = 1", "sensitive is 1; expected true or false"),
    ("[-10.0, 0.0, 20.0]", "[-10.0, 5.0, 0.0]", "x_edges_mm overlaps: 0.0 follows 5.0; expected strictly increasing edges"),
    ("[-5.0, 5.0]", "[5.0]", "y_edges_mm is (5.0,); expected at least two edges"),
    ('kind = "edges"', 'kind = "edge"', "kind is 'edge'. Did you mean 'edges'? Allowed: rectangular, edges, polar, hexagonal."),
    ("field_tesla = 2.0", "field_gauss = 2.0", "unknown key 'field_gauss' in detector. Did you mean 'field_tesla'?"),
    ("field_tesla = 2.0", "field_tesla = 20000", "field_tesla is 20000.0; expected tesla, at most 50"),
    ("size_mm = [500.0, 500.0]", "size_mm = 500.0", "size_mm is 500.0; expected two numbers, for x and y"),
    ("size_mm = [500.0, 500.0]", "size_mm = [500.0, -1]", "size_mm is -1; expected a number above 0"),
    ("pitch_mm = [5.0, 5.0]", "pitch = [5.0, 5.0]", "unknown key 'pitch' in rectangular readout. Did you mean 'pitch_mm'?"),
    ("repeat = 3", "repeat = 2.5", "repeat is 2.5; expected a whole number of at least 1"),
    ("stack_repeat = 2", "stack_repeat = 0", "stack_repeat is 0; expected a whole number of at least 1"),
    ("G4_POLYSTYRENE = 0.4", "G4_POLYSTYRENE = 0.5", "mass_fractions add up to 1.1; expected 1"),
    (
        "G4_POLYSTYRENE = 0.4",
        "POLYSTYRENE = 0.4",
        "expected Geant4 NIST names. Did you mean 'G4_POLYSTYRENE'?",
    ),
    ("O = 4", "Ox = 4", "atoms names 'Ox'; expected the symbol of an element"),
    ("O = 4", "O = -4", "atoms.O is -4; expected a number above 0"),
    ("density_g_cm3 = 8.28", "density_g_cm3 = 0", "density_g_cm3 is 0; expected a number above 0"),
    ("density_g_cm3 = 8.28", "density = 8.28", "unknown key 'density' in material 'PWO 4.1'. Did you mean 'density_g_cm3'?"),
    ('name = "mine"', "name = 3", "name is 3; expected text"),
]


@pytest.mark.parametrize(("old", "new", "says"), WRONG)
def test_a_wrong_file_is_refused_at_its_line(old: str, new: str, says: str) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    # The line of the first character that differs lies in the line complained about.
    line = 1 + GOOD[: GOOD.index(old)].count("\n")
    with pytest.raises(DetectorError) as caught:
        Detector.from_toml(text, source="mine.toml")
    message = str(caught.value)
    assert message.startswith(f"mine.toml, line {line}: "), message
    assert says in message


def test_what_is_missing_is_named_with_the_place_that_lacks_it() -> None:
    def refused(text: str) -> str:
        with pytest.raises(DetectorError) as caught:
            Detector.from_toml(text, source="f")
        return str(caught.value)

    assert "f: detector lacks 'name'. Required: name, section." in refused(GOOD.replace('name = "mine"\n', ""))
    assert "line 24: slab lacks 'thickness_mm'" in refused(GOOD.replace(", thickness_mm = 2.0", ""))
    assert "line 23: stack has no sensitive slab" in refused(GOOD.replace("0.5, sensitive = true", "0.5"))
    without = GOOD.replace('[readout]\nkind = "rectangular"\npitch_mm = [5.0, 5.0]\n', "")
    assert "layer has no readout. Give [readout] for all layers" in refused(without)
    assert "line 15: material 'PWO 4.1' has neither mass_fractions nor atoms" in refused(
        GOOD.replace("atoms = { Pb = 1, W = 1, O = 4 }\n", "")
    )
    both = GOOD.replace("atoms = {", "mass_fractions = { G4_W = 1.0 }\natoms = {")
    assert "line 15: material 'PWO 4.1' has both mass_fractions and atoms" in refused(both)
    assert "section is []; expected a list that is not empty" in refused('name = "x"\nsection = []')
    assert "section is 3; expected a list" in refused('section = 3\nname = "x"')
    assert "not valid TOML" in refused("name = ")
    assert "materials is 3; expected tables" in refused('name = "x"\nmaterials = 3\nsection = []')


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"no detector 'ild-ecl'.*Did you mean 'ild-ecal'\?.*calochallenge-2"):
        Detector.load("ild-ecl")
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DetectorError, match="not a text file"):
        Detector.load(binary)
    good = tmp_path / "good.toml"
    good.write_text(GOOD, "utf-8")
    assert Detector.load(good) == Detector.from_toml(GOOD)


def test_line_of_is_not_led_astray() -> None:
    text = 'description = """\nrepeat = 9\n[[section]]\n"""\n[[section]]\nrepeat = 1\n[[section]]\nrepeat = 2\n'
    assert line_of(text, ("section", 0, "repeat")) == 6
    assert line_of(text, ("section", 1, "repeat")) == 8
    assert line_of(text, ("nowhere",)) is None


@pytest.mark.parametrize("name", presets())
def test_presets_are_written_and_read_back(name: str) -> None:
    d = Detector.load(name)
    again = Detector.from_toml(d.to_toml())
    assert again == d
    assert again.to_toml() == d.to_toml()


# --- random detectors ------------------------------------------------------------------------------

lengths = st.floats(1e-6, 1e6)
shifts = st.floats(-1e3, 1e3)
edges = st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=12, unique=True).map(lambda e: tuple(sorted(e)))
widths = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
rings = widths.map(lambda w: tuple(accumulate(w, initial=0.0)))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def rectangulars(draw: st.DrawFn) -> Rectangular:
    pitch = draw(st.tuples(lengths, lengths))
    gap = tuple(p * draw(st.floats(0, 0.99)) for p in pitch)
    wafer = draw(st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)))
    guard = draw(st.tuples(st.floats(0, 9), st.floats(0, 9))) if wafer else (0.0, 0.0)
    offset = draw(st.tuples(shifts, shifts))
    return Rectangular(pitch_mm=pitch, offset_mm=offset, gap_mm=gap, wafer_cells=wafer, wafer_gap_mm=guard)


readouts: st.SearchStrategy[Readout] = st.one_of(
    rectangulars(),
    st.builds(Edges, x_edges_mm=edges, y_edges_mm=edges, offset_mm=st.tuples(shifts, shifts)),
    st.builds(Polar, r_edges_mm=rings, n_phi=st.integers(1, 99)),
    st.builds(Hexagonal, pitch_mm=st.floats(1, 99), gap_mm=st.floats(0, 0.9)),
)


@st.composite
def customs(draw: st.DrawFn) -> CustomMaterial:
    parts = draw(st.lists(st.sampled_from(["G4_W", "G4_Pb", "G4_C", "G4_KAPTON", "G4_lAr"]), min_size=1, unique=True))
    weights = [draw(st.floats(0.01, 1)) for _ in parts]
    fractions = {p: w / sum(weights) for p, w in zip(parts, weights, strict=True)}
    return CustomMaterial(density_g_cm3=draw(st.floats(1e-5, 30)), mass_fractions=fractions)


@st.composite
def detectors(draw: st.DrawFn) -> Detector:
    materials = draw(st.dictionaries(names.filter(lambda n: not n.startswith("G4_")), customs(), max_size=3))
    slab_names = st.sampled_from(["G4_W", "G4_Si", "G4_AIR", *materials])
    slabs = st.builds(Slab, material=slab_names, thickness_mm=lengths, sensitive=st.booleans())
    stacks = st.lists(slabs, min_size=1, max_size=4).filter(lambda s: any(x.sensitive for x in s))
    layers = st.builds(Layer, stack=stacks, stack_repeat=st.integers(1, 4), readout=readouts)
    sections = st.builds(Section, layers=st.lists(layers, min_size=1, max_size=3), repeat=st.integers(1, 5))
    return Detector(
        name=draw(names),
        description=draw(st.text(st.characters(codec="utf-8"), max_size=40)),
        sections=draw(st.lists(sections, min_size=1, max_size=3)),
        materials=materials,
        size_mm=draw(st.tuples(lengths, lengths)),
        field_tesla=draw(st.floats(0, 50)),
        threshold_mip=draw(st.floats(0, 10)),
        world_material=draw(slab_names),
    )


@settings(max_examples=50)
@given(detectors())
def test_any_detector_is_written_and_read_back(d: Detector) -> None:
    again = Detector.from_toml(d.to_toml())
    assert again == d
    assert hash(again) == hash(d)
    assert again.sections == d.sections
    assert again.materials == d.materials
    assert again.name == d.name
    assert again.description == d.description


@settings(max_examples=30)
@given(detectors(), st.data())
def test_any_slab_is_found_on_its_line(d: Detector, data: st.DataObject) -> None:
    """The line named for slab k is the line on which slab k was written."""
    text = d.to_toml()
    i = data.draw(st.integers(0, len(d.sections) - 1))
    j = data.draw(st.integers(0, len(d.sections[i].layers) - 1))
    k = data.draw(st.integers(0, len(d.sections[i].layers[j].stack) - 1))
    line = line_of(text, ("section", i, "layer", j, "stack", k, "thickness_mm"))
    assert line is not None
    before = sum(len(layer.stack) for s in d.sections[:i] for layer in s.layers)
    before += sum(len(layer.stack) for layer in d.sections[i].layers[:j]) + k
    written = [n for n, t in enumerate(text.split("\n"), start=1) if t.startswith("    { material = ")]
    assert line == written[before]


# --- the page for newcomers --------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)


def test_the_example_of_the_page_is_a_detector() -> None:
    d = Detector.from_toml(blocks("toml")[0])
    assert d.n_layers == 26
    assert Detector.from_toml(d.to_toml()) == d


def test_the_page_explains_every_readout() -> None:
    example = blocks("toml")[0]
    for text in blocks("toml")[1:]:
        table = re.sub(r"(?s)\[readout\]\n.*?\n\n", text.strip() + "\n\n", example, count=1)
        assert table != example
        Detector.from_toml(table)


def test_the_errors_of_the_page_are_printed_like_that() -> None:
    example = blocks("toml")[0]
    row = r"^`([^`\n]+)` in place of `([^`\n]+)`:\n\n```text\n(.*?)\n```"
    rows = re.findall(row, DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(rows) == 7
    for new, old, message in rows:
        assert example.count(old) == 1, old
        with pytest.raises(DetectorError) as caught:
            Detector.from_toml(example.replace(old, new), source="my-calo.toml")
        assert str(caught.value) == " ".join(message.split("\n"))


def test_the_page_names_every_key() -> None:
    import dataclasses

    text = DOCS.read_text("utf-8")
    for cls in (Detector, Section, Layer, Slab, CustomMaterial, Rectangular, Edges, Polar, Hexagonal):
        for f in dataclasses.fields(cls):
            key = {"sections": "section", "layers": "layer"}.get(f.name, f.name)
            assert f"`{key}`" in text, f"{cls.__name__}.{key}"
