"""Running the application: until stopped, or in a thread for tests and benchmarks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from tapir.errors import DataError
from tapir.studio.app import build
from tapir.studio.guard import Access


def _server(app: Starlette) -> uvicorn.Server:
    # No WebSockets and no server header; a log line a request would be noise.
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none", server_header=False))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # From here on a browser that is quicker than the server waits instead of being refused.
        listening.listen()
    except OSError as error:
        listening.close()
        raise DataError(f"{host}:{port} cannot be listened on ({error.strerror}); give another --port") from None
    return listening


def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    _server(app).run(sockets=[listening])


@contextmanager
def serving(
    folder: Path, *, annotate: bool = False, author: str = "somebody", pairs: int = 50, access: Access | None = None
) -> Generator[str]:
    """A server on a free loopback port while the block runs; gives its address."""
    server = _server(build(folder, access or Access(annotate=annotate), author=author, pairs=pairs))
    with bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
