"""A server of weight files, and a saved detector."""

import hashlib
import http.server
import threading

import pytest
from common import small_model


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; each number in `cuts` ends one answer after so many bytes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.requests, self.resumes = {}, [], [], True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.strip("/")
        server.requests.append((name, self.headers.get("Range")))
        if name not in server.files:
            self.send_error(404)
            return
        data, start = server.files[name], 0
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        wanted = self.headers.get("Range")
        if server.resumes and wanted and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if server.resumes:
            self.send_header("ETag", tag)
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that stands for all others, and an empty cache."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KERAS_GFLV2_MIRROR", server.url)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
        yield server
        server.shutdown()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A folder with the preset and the .keras file of one detector. Not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    model = small_model(class_names=["a", "b", "c"])
    model.compile()
    model.save_to_preset(folder / "preset")
    model.save(folder / "model.keras")
    return folder
