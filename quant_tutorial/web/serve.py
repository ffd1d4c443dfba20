"""Serve the web edition on this machine, built where it is needed (`make read`).

A page that is opened from a file may load neither modules nor WebAssembly, so it has only a part of
what the edition offers. Any server of static files does; this one is the standard library's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from quant_tutorial.web import build, sources

# A browser keeps a reader's progress by address and port, so it is this one whenever it is free.
PORT = 8642
# The system's own table, from which Python takes the others, may lack these or have them wrong.
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webp": "image/webp",
    ".tflite": "application/octet-stream",
}


class Handler(SimpleHTTPRequestHandler):
    """Serves files with their types, asks browsers to look for newer ones, and logs nothing."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | TYPES

    def end_headers(self) -> None:
        """End the headers, of which one keeps a browser from showing an older build."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing: the address that was printed stays in sight."""


class Server(ThreadingHTTPServer):
    """A server that takes no port from another program."""

    # Elsewhere the option would let two programs listen at one port.
    allow_reuse_address = os.name == "posix"

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error, unless the browser has only gone on before it had all of a page."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def server(folder: Path, port: int = PORT) -> Server:
    """Return a server of a folder, on loopback only, whose `serve_forever` serves it.

    Args:
        folder: The site.
        port: Where it listens; at a free port where that one is taken.
    """

    def handler(*arguments: object) -> Handler:
        return Handler(*arguments, directory=os.fspath(folder))

    try:
        return Server(("127.0.0.1", port), handler)
    except OSError:
        return Server(("127.0.0.1", 0), handler)


def is_current(site: Path) -> bool:
    """Return whether a site is there and newer than all that it is built from."""
    start = site / "index.html"
    return start.is_file() and all(
        path.stat().st_mtime <= start.stat().st_mtime for path in _sources()
    )


def _sources() -> Iterator[Path]:
    yield from (*sources.notebooks(), *sources.PAGES, sources.ROOT / "requirements.lock")
    for path in build.HERE.parent.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield path


def main() -> None:
    """Build the site unless it is there and current, serve it, and print its address."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--site", type=Path, default=sources.ROOT / "build" / "site")
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    site = arguments.site.resolve()
    if not is_current(site):
        print("Building the pages, which takes some minutes the first time …", flush=True)
        try:
            build.build(site)
        except (RuntimeError, ValueError) as error:
            sys.exit(str(error))
    with server(site, arguments.port) as serving, contextlib.suppress(KeyboardInterrupt):
        print(f"Read the course at http://127.0.0.1:{serving.server_port}/", flush=True)
        print("Ctrl+C ends it.", flush=True)
        serving.serve_forever()


if __name__ == "__main__":
    main()
