"""Detector files: TOML to Detector and back, with errors that name the line and the key."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from anycalo.errors import DetectorError
from anycalo.geometry.detector import CustomMaterial, Detector, Layer, Section, Slab
from anycalo.geometry.fields import InvalidField
from anycalo.geometry.readouts import READOUTS, Readout

PathInFile = tuple[str | int, ...]


class _FileError(Exception):
    """An error at a place in the file, before the place is turned into a line."""

    def __init__(self, path: PathInFile, message: str) -> None:
        super().__init__(message)
        self.path = path


def suggest(found: str, allowed: Iterable[str]) -> str:
    """'Did you mean ...?' for a misspelt name, or the empty string."""
    close = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def presets() -> dict[str, str]:
    """The presets shipped with the package: name to TOML text, sorted by name."""
    folder = resources.files("anycalo.geometry") / "presets"
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    return dict(sorted(texts.items()))


def load(source: str | Path) -> Detector:
    """See `Detector.load`."""
    known = presets()
    if str(source) in known:
        return parse(known[str(source)], source=str(source))
    path = Path(source)
    if not path.is_file():
        raise DetectorError(
            f"no detector '{source}': it is neither a preset nor a file.{suggest(str(source), known)}"
            f" Presets: {', '.join(known)}. A file is a path to a .toml."
        )
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise DetectorError(f"{path}: not a text file ({where}); expected TOML in UTF-8") from error
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> Detector:
    """See `Detector.from_toml`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DetectorError(f"{source}: not valid TOML: {error}") from error
    try:
        return _detector(table)
    except _FileError as error:
        line = line_of(text, error.path)
        where = f"{source}, line {line}" if line else source
        raise DetectorError(f"{where}: {error}") from error


def _take(
    table: Any, path: PathInFile, *, what: str, required: Iterable[str] = (), optional: Iterable[str] = ()
) -> dict[str, Any]:
    """Check that a table has the required keys and no unknown one."""
    if not isinstance(table, dict):
        raise _FileError(path, f"{what} is {table!r}; expected a table with {', '.join(required)}")
    allowed = [*required, *optional]
    for key in table:
        if key not in allowed:
            hint = suggest(key, allowed)
            raise _FileError((*path, key), f"unknown key '{key}' in {what}.{hint} Allowed: {', '.join(allowed)}.")
    for key in required:
        if key not in table:
            raise _FileError(path, f"{what} lacks '{key}'. Required: {', '.join(required)}.")
    return table


def _build(cls: Callable[..., Any], path: PathInFile, **values: Any) -> Any:
    """Construct, placing a complaint about a field at that field."""
    try:
        return cls(**values)
    except InvalidField as error:
        raise _FileError((*path, *error.key), str(error)) from error


def _list(value: Any, path: PathInFile, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _FileError(path, f"{what} is {value!r}; expected a list that is not empty")
    return value


def _readout(table: Any, path: PathInFile) -> Readout:
    _take(table, path, what="readout", required=["kind"], optional=list(table) if isinstance(table, dict) else [])
    kind = table["kind"]
    if not isinstance(kind, str) or kind not in READOUTS:
        raise _FileError((*path, "kind"), f"kind is {kind!r}.{suggest(str(kind), READOUTS)} Allowed: {', '.join(READOUTS)}.")
    cls = READOUTS[kind]
    fields = dataclasses.fields(cls)
    required = ["kind", *(f.name for f in fields if f.default is dataclasses.MISSING)]
    optional = [f.name for f in fields if f.default is not dataclasses.MISSING]
    _take(table, path, what=f"{kind} readout", required=required, optional=optional)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items() if k != "kind"}
    readout: Readout = _build(cls, path, **values)
    return readout


def _layer(table: Any, path: PathInFile, default: Readout | None) -> Layer:
    _take(table, path, what="layer", required=["stack"], optional=["stack_repeat", "readout"])
    slabs = []
    for i, slab in enumerate(_list(table["stack"], (*path, "stack"), "stack")):
        here = (*path, "stack", i)
        _take(slab, here, what="slab", required=["material", "thickness_mm"], optional=["sensitive"])
        slabs.append(_build(Slab, here, **slab))
    readout = _readout(table["readout"], (*path, "readout")) if "readout" in table else default
    if readout is None:
        raise _FileError(path, "layer has no readout. Give [readout] for all layers or readout = { kind = ... } here.")
    layer: Layer = _build(Layer, path, stack=tuple(slabs), stack_repeat=table.get("stack_repeat", 1), readout=readout)
    return layer


def _material(entry: Any, name: str) -> CustomMaterial:
    path: PathInFile = ("materials", name)
    _take(entry, path, what=f"material '{name}'", required=["density_g_cm3"], optional=["mass_fractions", "atoms"])
    if ("mass_fractions" in entry) == ("atoms" in entry):
        how = "both mass_fractions and atoms" if "atoms" in entry else "neither mass_fractions nor atoms"
        raise _FileError(path, f"material '{name}' has {how}; expected one of them.")
    if "atoms" in entry:
        from anycalo.geometry.materials import mass_fractions_of_atoms

        fractions = _build(mass_fractions_of_atoms, path, atoms=entry["atoms"])
        entry = {"density_g_cm3": entry["density_g_cm3"], "mass_fractions": fractions}
    material: CustomMaterial = _build(CustomMaterial, path, **entry)
    return material


_DETECTOR_OPTIONAL = ["description", "field_tesla", "size_mm", "threshold_mip", "world_material", "materials", "readout"]


def _detector(table: dict[str, Any]) -> Detector:
    _take(table, (), what="detector", required=["name", "section"], optional=_DETECTOR_OPTIONAL)
    materials = {}
    given = table.get("materials", {})
    if not isinstance(given, dict):
        raise _FileError(("materials",), f"materials is {given!r}; expected tables such as [materials.PCB]")
    for name, entry in given.items():
        materials[name] = _material(entry, name)
    default = _readout(table["readout"], ("readout",)) if "readout" in table else None
    sections = []
    for i, section in enumerate(_list(table["section"], ("section",), "section")):
        here: PathInFile = ("section", i)
        _take(section, here, what="section", required=["layer"], optional=["repeat"])
        tables = _list(section["layer"], (*here, "layer"), "layer")
        layers = [_layer(t, (*here, "layer", j), default) for j, t in enumerate(tables)]
        sections.append(_build(Section, here, layers=tuple(layers), repeat=section.get("repeat", 1)))
    simple: dict[str, Any] = {
        k: table[k] for k in ("name", "description", "field_tesla", "threshold_mip", "world_material") if k in table
    }
    if "size_mm" in table:
        simple["size_mm"] = tuple(table["size_mm"]) if isinstance(table["size_mm"], list) else table["size_mm"]
    detector: Detector = _build(Detector, (), sections=tuple(sections), materials=materials, **simple)
    return detector


# --- where in the text a key stands ---------------------------------------------------------------

_QUIET = re.compile(r'"{3}[\s\S]*?"{3}|\'{3}[\s\S]*?\'{3}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*')
_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*$")
_ASSIGNMENT = re.compile(r"""^\s*((?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*'))*)\s*=""")
_KEY = re.compile(r""""[^"]*"|'[^']*'|[A-Za-z0-9_\-]+""")


def _hush(match: re.Match[str]) -> str:
    """A comment blanked, a string with nothing left that looks like syntax; as many characters as before."""
    found = match[0]
    return " " * len(found) if found[0] == "#" else re.sub(r"[\[\]{}=]", "_", found)


def _statements(text: str) -> list[tuple[PathInFile, int, str]]:
    """Every header and assignment of a TOML text: full path with list indices, first line, its text."""
    found: list[tuple[PathInFile, int, str]] = []
    counts: dict[PathInFile, int] = {}
    prefix: PathInFile = ()
    for number, line in enumerate(_QUIET.sub(_hush, text).split("\n"), start=1):
        header = _HEADER.match(line)
        if header and line.lstrip().startswith("["):
            path: PathInFile = ()
            parts = [p.strip("\"'") for p in _KEY.findall(header[2])]
            for depth, part in enumerate(parts):
                path = (*path, part)
                last = depth == len(parts) - 1
                if last and header[1] == "[[":
                    counts[path] = counts.get(path, -1) + 1
                if path in counts:
                    path = (*path, counts[path])
            prefix = path
            found.append((prefix, number, line))
        elif (assignment := _ASSIGNMENT.match(line)) and not line.lstrip().startswith("{"):
            keys = tuple(k.strip("\"'") for k in _KEY.findall(assignment[1]))
            found.append(((*prefix, *keys), number, line))
        elif found:
            path, first, so_far = found[-1]
            found[-1] = (path, first, f"{so_far}\n{line}")
    return found


def line_of(text: str, path: PathInFile) -> int | None:
    """The line on which the value at `path` stands, as exactly as it can be told.

    Looks for the longest known beginning of the path, then, inside an inline list of tables, for the
    n-th `{` and the key after it.
    """
    statements = _statements(text)
    for length in range(len(path), 0, -1):
        for known, first, body in statements:
            if known != path[:length]:
                continue
            return first + body[: _offset_inside(body, path[length:])].count("\n")
    return None


def _offset_inside(body: str, rest: PathInFile) -> int:
    """Offset in a statement of what the rest of the path points to (0 when it cannot be told)."""
    if not rest:
        return 0
    offset = 0
    if isinstance(rest[0], int):
        braces = [m.start() for m in re.finditer(r"\{", body)]
        if rest[0] >= len(braces):
            return 0
        offset = braces[rest[0]]
        rest = rest[1:]
    if rest and isinstance(rest[0], str):
        key = re.search(rf"[\"']?{re.escape(rest[0])}[\"']?\s*=", body[offset:])
        if key:
            offset += key.start()
    return offset


# --- writing ------------------------------------------------------------------------------------


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML wants this one escaped too
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    return "[" + ", ".join(_value(v) for v in value) + "]"


def _inline_readout(readout: Readout) -> str:
    parts = [f"kind = {_value(readout.kind)}"]
    for f in dataclasses.fields(readout):
        value = getattr(readout, f.name)
        if f.default is dataclasses.MISSING or value != f.default:
            parts.append(f"{f.name} = {_value(value)}")
    return "{ " + ", ".join(parts) + " }"


def write(detector: Detector) -> str:
    """See `Detector.to_toml`."""
    lines = [f"name = {_value(detector.name)}"]
    if detector.description:
        lines.append(f"description = {_value(detector.description)}")
    lines += [
        f"size_mm = {_value(detector.size_mm)}",
        f"field_tesla = {_value(detector.field_tesla)}",
        f"threshold_mip = {_value(detector.threshold_mip)}",
        f"world_material = {_value(detector.world_material)}",
    ]
    for name, material in detector.materials.items():
        fractions = ", ".join(f"{_value(k)} = {_value(v)}" for k, v in material.mass_fractions.items())
        lines += ["", f"[materials.{_value(name)}]", f"density_g_cm3 = {_value(material.density_g_cm3)}"]
        lines.append(f"mass_fractions = {{ {fractions} }}")
    for section in detector.sections:
        lines += ["", "[[section]]", f"repeat = {section.repeat}"]
        for layer in section.layers:
            lines += ["", "[[section.layer]]", "stack = ["]
            for slab in layer.stack:
                sensitive = ", sensitive = true" if slab.sensitive else ""
                slab_text = f"material = {_value(slab.material)}, thickness_mm = {_value(slab.thickness_mm)}{sensitive}"
                lines.append(f"    {{ {slab_text} }},")
            lines += ["]", f"stack_repeat = {layer.stack_repeat}", f"readout = {_inline_readout(layer.readout)}"]
    return "\n".join(lines) + "\n"
