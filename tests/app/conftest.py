"""A running app, with the page's own requests as functions."""

import http.client
import json
import socket
import threading
import urllib.parse

import numpy as np
import pytest
from PIL import Image


class Client:
    """Asks a server, as the page does.

    Attributes:
        server: the `Server`.
        address: of its page.
    """

    def __init__(self, server, port):
        self.server, self.port, self.address = server, port, f"http://127.0.0.1:{port}"

    def request(self, method, path, body=None, headers=None, **parameters):
        """Status, headers and content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        connection.request(method, path + query, body, headers or {})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def post(self, path, body=b"", headers=None, **parameters):
        """Status and JSON of an answer."""
        status, _, content = self.request("POST", path, body, headers, **parameters)
        assert b"Traceback" not in content
        return status, json.loads(content)

    def detect(self, path):
        """What is found in the file of a path."""
        status, answer = self.post("/api/detect", path.read_bytes(), name=path.name)
        assert status == 200, answer
        return answer


@pytest.fixture(scope="session")
def start():
    """Function from an `InteractiveDetector` and arguments of `Server` to a `Client` of it."""
    pytest.importorskip("starlette", reason='the extra "app" is not installed')
    pytest.importorskip("vl_convert", reason='the extra "app" is not installed')
    from keras_gflv2.app.server import Server
    from keras_gflv2.app.serving import web_server

    running = []

    def started(detector, name="small", **options):
        server = Server(detector, name, **{"hosts": {"127.0.0.1"}, **options})
        opened = socket.create_server(("127.0.0.1", 0))
        web = web_server(server)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [opened]})
        thread.start()
        running.append((server, web, thread))
        return Client(server, opened.getsockname()[1])

    yield started
    for server, web, thread in running:
        web.should_exit = True
        thread.join()
        server.close()


@pytest.fixture(scope="session")
def detector(trained):
    """The small detector as the app has it."""
    from keras_gflv2.app.interactive_detector import InteractiveDetector

    return InteractiveDetector(trained[0])


@pytest.fixture(scope="session")
def folder(trained, tmp_path_factory):
    """A folder with two images that the small detector knows, one.png and two.png."""
    path = tmp_path_factory.mktemp("examples")
    for name, image in zip(("one.png", "two.png"), trained[1]["images"]):
        Image.fromarray(np.rint(image).astype("uint8")).save(path / name)
    return path


@pytest.fixture(scope="session")
def client(start, detector, folder):
    """A client of an app with examples."""
    from keras_gflv2.app.examples import Examples

    return start(detector, examples=Examples(folder), max_bytes=200_000)
