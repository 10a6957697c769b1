"""Tables and bars in a window and outside of one."""

from __future__ import annotations

import io

from rich.console import Console

from tapir.cli.window import bars, show_table


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def drawn(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_outside_of_a_window_a_table_is_plain_and_never_cut():
    plain = Console(file=io.StringIO(), force_terminal=False, width=20)
    show_table(["task", "rows"], [["a name much longer than the window", "7"]], console=plain)
    assert drawn(plain) == ["task                                rows", "a name much longer than the window     7"]


def test_in_a_window_no_line_is_wider_than_it_and_numbers_stay_whole():
    at = terminal(24)
    show_table(["task", "rows"], [["a name much longer than the window", "1,234,567"]], console=at)
    assert max(map(len, drawn(at))) <= 24
    assert any("1,234,567" in line for line in drawn(at))


def test_bars_fit_the_window_and_what_is_there_shows():
    at = terminal(40)
    bars({"0": 1_000, "1": 1, "2": 0}, console=at)
    zero, one, none = drawn(at)
    assert len(zero) <= 40
    assert zero.startswith("0 ████")
    assert (one, none) == ("1 ▏ 1", "2  0")


def test_text_of_models_commands_no_terminal():
    for at in (terminal(60), Console(file=io.StringIO(), force_terminal=False)):
        show_table(["\x1b]0;owned\x07task"], [["red \x1b[31mtext\u202e"]], console=at)
        assert "\x1b]0" not in str(drawn(at))
        assert "\x1b[31m" not in "".join(drawn(at))
        assert "\u202e" not in "".join(drawn(at))
