"""A web server of this machine for the files that messages name, which counts who asked."""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class FileServer:
    """A running server.

    Attributes:
        url: where it listens.
        files: path → content type and content.
        redirects: path → where it leads.
        paths: every path that was asked for.
    """

    url: str
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)


@contextmanager
def file_server(address: str, files: Mapping[str, tuple[str, bytes]]) -> Iterator[FileServer]:
    """Serve some files on a free port of one of this machine's addresses."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.paths.append(self.path)
            if self.path in served.redirects:
                self.send_response(302)
                self.send_header("location", served.redirects[self.path])
                self.send_header("content-length", "0")
                self.end_headers()
                return
            kind, content = served.files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("content-type", kind or "text/plain")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
            """Log nothing."""

    with http.server.ThreadingHTTPServer((address, 0), Handler) as server:
        served = FileServer(f"http://{address}:{server.server_address[1]}", dict(files))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
