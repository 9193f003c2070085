"""The page as a web site: what NiceGUI serves, and what a browser may load."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nicegui import app, ui

from clients.config import ClientConfig
from clients.web.page import Page

# Whatever a library may come to ask for: a browser loads nothing from anywhere else.
_CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
)
_ICON = "\N{EYES}"


def serve(config: ClientConfig, models: Sequence[str], host: str, port: int) -> None:
    """Serves the page until the process is interrupted.

    Args:
        config: The model server to ask.
        models: Names of the models to offer.
        host: Address to listen on.
        port: Port to listen on.
    """

    def visit() -> None:
        Page(config, models).show()

    app.middleware("http")(_add_content_policy)
    ui.run(
        visit,
        host=host,
        port=port,
        title="Models",
        favicon=_ICON,
        reload=False,
        show=False,
        show_welcome_message=False,
        tailwind=False,
    )


async def _add_content_policy(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = _CONTENT_POLICY
    return response
