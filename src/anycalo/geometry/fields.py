"""Checks of the fields of a detector description; each answers what was found and what is expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, TypeVar

from anycalo.errors import DetectorError

T = TypeVar("T")


class InvalidField(DetectorError):  # noqa: N818 - it names what is invalid; nobody but the reader of files catches it
    """A value that its field cannot take.

    Args:
        key: the field, or the way to it from the top of the detector file (`("section", 0, "layer", 2)`),
            so that a reader can find its line.
        message: what was found, what is expected.
    """

    def __init__(self, key: str | tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.key = (key,) if isinstance(key, str) else key


def number(key: str, value: Any, *, positive: bool = False, minimum: float | None = None) -> float:
    """The value as a finite float, above 0 or at least `minimum` where asked."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidField(key, f"{key} is {value!r}; expected a finite number (units are in the name of the key)")
    if positive and value <= 0:
        raise InvalidField(key, f"{key} is {value!r}; expected a number above 0")
    if minimum is not None and value < minimum:
        raise InvalidField(key, f"{key} is {value!r}; expected a number of at least {minimum}")
    return float(value)


def integer(key: str, value: Any, *, minimum: int = 1) -> int:
    """The value as an int of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InvalidField(key, f"{key} is {value!r}; expected a whole number of at least {minimum}")
    return int(value)


def text(key: str, value: Any, *, empty: bool = False) -> str:
    """The value as a string, not empty unless it may be."""
    if not isinstance(value, str) or not (value or empty):
        raise InvalidField(key, f"{key} is {value!r}; expected text")
    return value


def instances(key: str, values: Any, kind: type[T]) -> tuple[T, ...]:
    """The values as a tuple, all of one class."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidField(key, f"{key} is {values!r}; expected a sequence of {kind.__name__}")
    found = tuple(values)
    for value in found:
        if not isinstance(value, kind):
            raise InvalidField(key, f"{key} holds {value!r}; expected {kind.__name__} objects")
    return found


def pair(key: str, value: Any, *, positive: bool = False, minimum: float | None = None) -> tuple[float, float]:
    """Two numbers, for x and y."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
        raise InvalidField(key, f"{key} is {value!r}; expected two numbers, for x and y")
    x, y = (number(key, v, positive=positive, minimum=minimum) for v in value)
    return x, y


def rising(key: str, value: Any) -> tuple[float, ...]:
    """At least two strictly increasing numbers."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) < 2:
        raise InvalidField(key, f"{key} is {value!r}; expected at least two edges")
    edges = tuple(number(key, v) for v in value)
    for left, right in pairwise(edges):
        if right <= left:
            raise InvalidField(key, f"{key} overlaps: {right!r} follows {left!r}; expected strictly increasing edges")
    return edges
