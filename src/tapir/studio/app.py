"""The application: addresses to pages. What a page shows is in the module that makes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tapir.errors import TapirError
from tapir.report.markup import Element, el, foreign
from tapir.studio.annotating import annotate_page, decide, mark
from tapir.studio.choosing import difficulty_page, mix_page
from tapir.studio.comparing import compare_page
from tapir.studio.frame import page, run_url
from tapir.studio.guard import MOST_BODY_BYTES, Access, Guard
from tapir.studio.judging import answers_page, judge_page
from tapir.studio.life import life_page, read_story
from tapir.studio.overview import overview, runs_table
from tapir.studio.rows import rows_page
from tapir.studio.runs import OpenRuns, View

Asked: TypeAlias = dict[str, str]
STATIC = {
    "page.css": ("tapir.report", "text/css"),
    "charts.css": ("tapir.report", "text/css"),
    "studio.css": ("tapir.studio", "text/css"),
    "studio.js": ("tapir.studio", "text/javascript"),
    "icon.svg": ("tapir.studio", "image/svg+xml"),
}
RUN_PAGES: dict[str, tuple[str, Callable[[View, Asked], list[Element]]]] = {
    "": ("Overview", lambda view, asked: overview(view)),
    "rows": ("Instructions", rows_page),
    "difficulty": ("Difficulty and δ", difficulty_page),
    "mix": ("Task mix of a round", mix_page),
    "judge": ("Where the judge is at odds", lambda view, asked: judge_page(view)),
    "answers": ("Answers side by side", answers_page),
}


class Studio:
    """The handlers, over one folder of runs."""

    def __init__(self, folder: Path, access: Access, author: str, pairs: int) -> None:
        self.runs = OpenRuns(folder, access, author)
        self.access = access
        self.pairs = pairs

    def _view(self, request: Request) -> View:
        view = self.runs.get(str(request.path_params["run"]))
        if view is None:
            raise HTTPException(404, "there is no such run here")
        return view

    def _page(self, view: View, title: str, body: list[Element], here: str | None) -> Response:
        return page(title, body, key=view.key, here=here, annotate=self.access.annotate)

    def home(self, request: Request) -> Response:
        return page("Runs", runs_table(self.runs.all()))

    def compare(self, request: Request) -> Response:
        asked = dict(request.query_params)
        views = self.runs.all()
        key = asked["a"] if asked.get("a") in views else None
        return page(
            "Two runs compared", compare_page(views, asked), key=key, here="compare", annotate=self.access.annotate
        )

    def of_run(self, request: Request) -> Response:
        name = str(request.path_params.get("page", ""))
        view = self._view(request)
        if name not in RUN_PAGES:
            raise HTTPException(404, "there is no such page")
        title, make = RUN_PAGES[name]
        return self._page(view, title, make(view, dict(request.query_params)), name)

    def instruction(self, request: Request) -> Response:
        view = self._view(request)
        story = read_story(view, str(request.path_params["id"]))
        if story is None:
            raise HTTPException(404, "no row of this run is about that instruction")
        return self._page(view, "One instruction", life_page(view, story), None)

    def annotate(self, request: Request) -> Response:
        if not self.access.annotate:
            raise HTTPException(404, "start the studio with --annotate to mark things")
        view = self._view(request)
        return self._page(view, "Which answer is better?", annotate_page(view, self.pairs), "annotate")

    async def decided(self, request: Request) -> Response:
        asked, view = await self._form(request)
        await run_in_threadpool(decide, view, asked, self.pairs)
        return RedirectResponse(run_url(view.key, "annotate"), 303)

    async def marked(self, request: Request) -> Response:
        asked, view = await self._form(request)
        then = await run_in_threadpool(mark, view, asked)
        return RedirectResponse(run_url(view.key, then), 303)

    async def _form(self, request: Request) -> tuple[Asked, View]:
        """The form's fields; only ones that carry our token."""
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise HTTPException(415, "a form is wanted")
        body = (await request.body())[:MOST_BODY_BYTES]
        asked = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=30))
        if not self.access.knows_form(asked.get("form_token", "")):
            raise HTTPException(403, "this form is of an earlier start of the studio; reload the page")
        return asked, await run_in_threadpool(self._view, request)


def static(request: Request) -> Response:
    name = str(request.path_params["name"])
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    package, kind = STATIC[name]
    return Response(resources.files(package).joinpath(name).read_bytes(), media_type=kind)


def problem(request: Request, error: Exception) -> Response:
    """An error in a page of its own, in words."""
    code = error.status_code if isinstance(error, HTTPException) else 400
    said = error.detail if isinstance(error, HTTPException) else str(error)
    answer = page("That did not work", el("p", foreign(said, 1_000)), el("p", el("a", "To the runs", href="/")))
    answer.status_code = code
    return answer


def build(folder: Path, access: Access, *, author: str = "", pairs: int = 50) -> Starlette:
    """The application over the runs below `folder`."""
    studio = Studio(folder, access, author, pairs)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        studio.runs.close()

    routes = [
        Route("/", studio.home),
        Route("/compare", studio.compare),
        Route("/static/{name}", static),
        Route("/run/{run}", studio.of_run),
        Route("/run/{run}/instruction/{id}", studio.instruction),
        Route("/run/{run}/annotate", studio.annotate),
        Route("/run/{run}/annotate", studio.decided, methods=["POST"]),
        Route("/run/{run}/marks", studio.marked, methods=["POST"]),
        Route("/run/{run}/{page}", studio.of_run),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: problem, TapirError: problem},
        lifespan=lifespan,
    )
    # An address is right or it is not: a redirect would repeat what somebody else put into it.
    app.router.redirect_slashes = False
    return app
