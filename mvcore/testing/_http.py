"""A small HTTP server on the loopback address, which can also break off as a network does."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final
from urllib.parse import urlsplit

from attrs import evolve, frozen


@final
@frozen
class Request:
    """What was asked: the path as it was written, the names of the headers in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@final
@frozen
class Answer:
    """What is answered.

    Args:
        status: The status.
        headers: Its headers; the length is added, unless it is among them.
        body: Its body, which a HEAD leaves out.
        cut: Bytes of the body after which the connection breaks; None: it does not.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: int | None = None

    def ranged(self, asked: str | None) -> Answer:
        """The rest of the body from where ``Range: bytes=N-`` asks for it."""
        if asked is None or not (found := re.fullmatch(r"bytes=(\d+)-", asked)):
            return self
        start = int(found[1])
        where = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        return evolve(self, status=206, headers={**self.headers, "Content-Range": where}, body=self.body[start:])


@final
class Server:
    """Answers each request by a function, in a thread each, from ``start`` to ``stop``."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"answer": staticmethod(answer)})
        )
        self._server.daemon_threads = True
        self._open: set[socket.socket] = set()
        vars(self._server)["open"] = self._open
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the server and every connection to it; its address is free again."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Callable[[Request], Answer]

    def log_message(self, *_: Any) -> None:
        """Writes nothing."""

    def handle(self) -> None:
        """Lets a client go away."""
        everyone: set[socket.socket] = vars(self.server)["open"]
        everyone.add(self.connection)
        with suppress(OSError):
            super().handle()
        everyone.discard(self.connection)

    def _go(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.answer(Request(self.command, urlsplit(self.path).path, headers, self._body()))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
        self.close_connection = self.close_connection or answer.cut is not None

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = _go
