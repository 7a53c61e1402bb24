"""Configuration dataclasses from TOML and JSON tables, and back, with errors that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from anycalo.errors import AnyCaloError
from anycalo.geometry.file import suggest

T = TypeVar("T")


def from_table(cls: type[T], table: Any, *, where: str, error: type[AnyCaloError]) -> T:
    """Build a configuration dataclass (nested ones from nested tables) from a table of plain values.

    Args:
        cls: the dataclass.
        table: its values by field name; fields with a default may be left out.
        where: names the table in messages.
        error: raised for an unknown or missing key, a value of the wrong type, or one the class refuses.
    """
    if not isinstance(table, Mapping):
        raise error(f"{where} is {table!r}; expected a table")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            allowed = ", ".join(fields) or "nothing"
            raise error(f"unknown key '{key}' in {where}.{suggest(str(key), fields)} Allowed: {allowed}.")
    for name, f in fields.items():
        if name not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise error(f"{where} lacks '{name}'")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, where=f"{where}.{key}", error=error) for key, value in table.items()}
    try:
        return cls(**values)
    except AnyCaloError as refused:
        raise error(f"{where}: {refused}") from refused


def _convert(hint: Any, value: Any, *, where: str, error: type[AnyCaloError]) -> Any:
    """The value as the type that the hint asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_table(hint, value, where=where, error=error)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return _convert(hint, value, where=where, error=error)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (Ellipsis not in arguments and len(value) != len(arguments)):
            count = "" if Ellipsis in arguments else f"{len(arguments)} "
            raise error(f"{where} is {value!r}; expected a list of {count}values")
        kinds = [arguments[0]] * len(value) if Ellipsis in arguments else list(arguments)
        return tuple(
            _convert(k, v, where=f"{where}[{i}]", error=error) for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise error(f"{where} is {value!r}; expected a table")
        return {k: _convert(arguments[1], v, where=f"{where}.{k}", error=error) for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if hint in wanted and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise error(f"{where} is {value!r}; expected {wanted[hint]}")
    return value


def to_table(config: Any) -> dict[str, Any]:
    """The configuration as plain values, which `from_table` reads back to an equal one."""
    table: dict[str, Any] = dataclasses.asdict(config)
    return table
