"""`tapir report`: one run's page, or several on one, as HTML, Markdown, JSON and figures; or trust in the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapir.cli.results import AsJson
from tapir.errors import RecipeError
from tapir.store.rundir import RunDir, open_run, write_text

if TYPE_CHECKING:
    from tapir.report.markup import Element

FORMS = ("html", "md", "json")
COMPARISON = Path("comparison.html")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(report)


def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run directory, or several to compare.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write it.")] = None,
    form: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    figures: Annotated[Path | None, typer.Option(help="Also write every chart here, as SVG and PNG.")] = None,
    judge: Annotated[bool, typer.Option("--judge", help="How far the judge can be trusted, in the terminal.")] = False,
    gold: Annotated[Path | None, typer.Option(help="Pairs with human labels for the judge: its agreement.")] = None,
    as_json: AsJson = False,
    trust: Annotated[bool, typer.Option(help="Confirm that the recipe's hosts may get the keys it names.")] = False,
) -> None:
    """Write the report of a run, or of several runs on one page; with --judge print the trust report.

    HTML goes to report.html in the run (of several: comparison.html here), Markdown and JSON to standard output.
    """
    if judge or gold is not None:
        if len(paths) > 1:
            raise RecipeError("--judge and --gold look at one run; name one")
        from tapir.cli.judge import print_trust

        print_trust(paths[0], gold, as_json=as_json, trust=trust)
        return
    if as_json:
        form = "json"
    if form not in FORMS:
        raise RecipeError(f"--format {form}: choose {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    runs = [open_run(path) for path in paths]
    page = _page(runs) if form != "json" or figures is not None else None
    target = out or (_default(runs) if form == "html" else None)
    text = _text(form, runs, page)
    if target is None:
        print(text)
    else:
        write_text(target, text)
        print(target)
    if figures is not None and page is not None:
        from tapir.report.figures import write_figures

        written = write_figures(page, figures)
        typer.echo(f"{len(written)} figures in {figures}", err=target is None)


def _default(runs: list[RunDir]) -> Path:
    return runs[0].root / "report.html" if len(runs) == 1 else COMPARISON


def _page(runs: list[RunDir]) -> Element:
    if len(runs) > 1:
        from tapir.report.compare_page import comparison

        return comparison(runs)
    from tapir.report.facts import Facts
    from tapir.report.html import page

    return page(Facts(runs[0]))


def _text(form: str, runs: list[RunDir], page: Element | None) -> str:
    if form == "json":
        return json.dumps(_data(runs), indent=2, ensure_ascii=False)
    assert page is not None
    if form == "md":
        from tapir.report.markdown import as_markdown

        return as_markdown(page)
    from tapir.report.markup import render

    return render(page)


def _data(runs: list[RunDir]) -> object:
    if len(runs) > 1:
        from tapir.report.compare import as_json, entries

        return as_json(entries(runs))
    from tapir.report.data import as_json as one
    from tapir.report.facts import Facts

    return one(Facts(runs[0]))
