"""Text from models and data sets on its way to a terminal. By itself, so that showing a table loads nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping

_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links, clipboards
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # direction overrides
)


def printable(text: str) -> str:
    """Text without the sequences by which it could command a terminal: ANSI, OSC, control and bidi characters."""
    return _CONTROL.sub("", text)


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name, on one line."""
    return ", ".join(f"{printable(name)} {count}" for name, count in counts.items())


def print_dropped(counts: Mapping[str, int]) -> None:
    """The rows that were not taken, by reason, if there are any."""
    if counts:
        print(f"dropped: {listed(counts)}")
