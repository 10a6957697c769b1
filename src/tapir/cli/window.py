"""Tables and bars that fit the window of a terminal, and are plain lines anywhere else, so that scripts can read them.

Text of models and data loses its control characters on the way (`terminal.printable`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tapir.cli.results import aligned
from tapir.cli.terminal import printable

PLAIN_BAR = 40
EIGHTHS = " ▏▎▍▌▋▊▉"


def window() -> Console:
    """Standard output as a window; where it is none, nothing is coloured or cut."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def say(text: str, console: Console | None = None) -> None:
    """A line of words, folded at words where there is a window."""
    at = console or window()
    if at.is_terminal:
        at.print(Text(printable(text)))
    else:
        print(printable(text), file=at.file)


def show_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, words: Iterable[int] = (0,), console: Console | None = None
) -> None:
    """A table whose columns `words` hold words, to the left, and whose others hold numbers, to the right."""
    at, left = console or window(), set(words)
    told = [[printable(cell).replace("\n", " ⏎ ") for cell in row] for row in rows]
    if not at.is_terminal:
        for line in aligned([list(head), *told], left=left):
            print(line, file=at.file)
        return
    at.print(rich_table(head, told, left))


def rich_table(head: Sequence[str], rows: Iterable[Sequence[str]], left: set[int]) -> Table:
    """For a window: numbers stay whole, words give way."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, header_style="bold")
    for n, name in enumerate(head):
        words = n in left
        table.add_column(
            Text(name),
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold" if words else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def bars(counts: Mapping[str, int], *, marked: Iterable[str] = (), console: Console | None = None) -> None:
    """A bar for each label, as long as the window allows; those that are marked are set off by their colour."""
    at, off = console or window(), set(marked)
    labels, numbers = max(map(len, counts), default=0), max((len(f"{n:,}") for n in counts.values()), default=0)
    room = max(8, at.width - labels - numbers - 3) if at.is_terminal else PLAIN_BAR
    for label, bar, count in _drawn(counts, room):
        line = f"{label:>{labels}} {bar} {count:,}"
        if at.is_terminal:
            at.print(Text.assemble(f"{label:>{labels}} ", (bar, "red" if label in off else "blue"), f" {count:,}"))
        else:
            print(printable(line), file=at.file)


def _drawn(counts: Mapping[str, int], room: int) -> Iterator[tuple[str, str, int]]:
    most = max(counts.values(), default=0) or 1
    for label, count in counts.items():
        whole, eighths = divmod(round(8 * room * count / most), 8)
        # What is there shows, however little it is beside the largest.
        yield label, "█" * whole + EIGHTHS[eighths].strip() or ("▏" if count else ""), count
