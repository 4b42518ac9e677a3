"""A server of one file that behaves as badly as a test wants."""

import hashlib
import io
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def zipped(tensors: bytes) -> bytes:
    """As torch writes them: nothing is compressed, each part has a checksum."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", tensors)
    return buffer.getvalue()


CONTENT = zipped(bytes(range(256)) * 12_000)  # 3 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file at every path, as well or as badly as a test wants.

    Attributes:
        content: the file.
        etag: its ETag; none if empty.
        ranges: whether Range is understood.
        drop_after: bytes after which each answer breaks off; None never.
        drops: how many answers break off.
        lie_about_start: answer a Range from its neighbour.
        statuses: status codes of the next answers, before any 200.
        headers: sent instead of what the server would say.
        ignore_if_range: answer a Range of a file that has changed meanwhile.
        requests: Range headers that came, None for none.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        # Clients that hang up are what some tests are about; no traceback for them.
        self.handle_error = lambda *_: None
        self.content, self.etag, self.ranges = CONTENT, '"one"', True
        self.drop_after: int | None = None
        self.drops = 10**9
        self.lie_about_start = False
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.ignore_if_range = False
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, span = self.server, self.headers.get("Range")
        server.requests.append(span)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        start = 0
        same = server.ignore_if_range or (self.headers.get("If-Range", server.etag) == server.etag)
        if span and server.ranges and same:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if server.lie_about_start:
                start -= 1
            self.send_response(206)
            end = len(server.content)
            if "Content-Range" not in server.headers:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        else:
            self.send_response(200)
        body = server.content[start:]
        said = {"Content-Length": str(len(body)), "ETag": server.etag} | server.headers
        for name, value in said.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if server.drop_after is not None and len(body) > server.drop_after and server.drops > 0:
            server.drops -= 1
            body = body[: server.drop_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass
