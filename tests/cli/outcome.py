"""What a command line did."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON object."""
        return json.loads(self.out)


Run = Callable[..., Outcome]
"""Runs `anycalo` with the given words."""
Refused = Callable[..., str]
"""Runs one that must fail and leave nothing behind; gives its message."""
