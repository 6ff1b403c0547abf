"""A web server on loopback that counts requests and can fail the first ones."""

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Shop:
    """Serves ``files`` (name to bytes) at ``url``; the first ``failures[name]`` requests of a name are answered 503."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failures: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                shop.asked[name] += 1
                content = shop.files.get(name)
                status = 503 if shop.failures[name] >= shop.asked[name] else 404 if content is None else 200
                self.send_response(status)
                self.send_header("Content-Length", str(len(content or b"") if status == 200 else 0))
                self.end_headers()
                if status == 200 and content:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "SPARELU_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    opened = Shop()
    thread = threading.Thread(target=opened.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()
    thread.join()
