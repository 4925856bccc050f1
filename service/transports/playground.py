"""The page at ``/``: static files of the package, which load nothing from elsewhere and hold no script inline."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "playground"
# Pictures may be the page's own (blob:) or an answer's (data:).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Asked for anew each time, and answered with 304 where it has not changed.
    "cache-control": "no-cache",
}


class _Files(StaticFiles):
    def file_response(self, *arguments: object, **options: object) -> Response:
        response: Response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers.update(_HEADERS)
        return response


def routes() -> list[BaseRoute]:
    """The page and what it loads."""

    async def page(request: Request) -> Response:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)

    return [Route("/", page, methods=["GET"]), Mount("/playground", _Files(directory=FOLDER))]
