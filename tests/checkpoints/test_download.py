"""Downloads from servers, proxies and discs that misbehave."""

import socketserver
import threading

import pytest

from keras_gflv2.checkpoints import DownloadError
from keras_gflv2.checkpoints.download import _Redirects, download

DATA = bytes(range(1, 251)) * 20
TAG = b'"v1"'


class Answers(socketserver.ThreadingTCPServer):
    """Sends what `answers` holds, one to a request and the last one for ever, byte by byte."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests = [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/w.pth"


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        lines = []
        while line := self.rfile.readline().strip():
            lines.append(line.decode())
        self.server.requests.append(lines[1:])
        answers = self.server.answers
        self.wfile.write(answers.pop(0) if len(answers) > 1 else answers[0])


@pytest.fixture
def server():
    with Answers() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def answer(status, body=b"", **changes):
    headers = {"Content_Length": len(body), "ETag": TAG.decode(), "Connection": "close", **changes}
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in headers.items() if v is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def begun(folder, data, validator=TAG):
    """A download that was interrupted after `data`."""
    (folder / "w.pth.part").write_bytes(data)
    (folder / "w.pth.part.validator").write_bytes(validator)
    return folder / "w.pth"


def ranges(server):
    return [[line for line in lines if line.startswith("Range")] for lines in server.requests]


WHOLE = answer("200 OK", DATA)


def test_a_part_that_is_whole_is_finished(tmp_path, server):
    """The process was killed between the last byte and the renaming."""
    path = begun(tmp_path, DATA)
    total = {"Content_Range": f"bytes */{len(DATA)}"}
    server.answers = [answer("416 Range Not Satisfiable", **total)]
    download(server.url, path)
    assert path.read_bytes() == DATA
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth"]


REST = DATA[1000:]
MISPLACED = {
    "longer than the file": ("416 Range Not Satisfiable", b"", f"bytes */{len(DATA) - 1}"),
    "no total": ("416 Range Not Satisfiable", b"", None),
    "another start": ("206 Partial Content", REST, f"bytes 999-{len(DATA) - 2}/{len(DATA)}"),
    "another total": ("206 Partial Content", REST, f"bytes 1000-{len(DATA)}/{len(DATA) + 1}"),
    "nonsense": ("206 Partial Content", REST, "bytes many"),
}


@pytest.mark.parametrize("kind", MISPLACED)
def test_a_range_that_does_not_continue_the_part_is_not_used(kind, tmp_path, server):
    status, body, content_range = MISPLACED[kind]
    path = begun(tmp_path, b"x" * 1000 if "206" in status else b"x" * len(DATA))
    server.answers = [answer(status, body, Content_Range=content_range), WHOLE]
    download(server.url, path)
    assert path.read_bytes() == DATA
    assert [bool(r) for r in ranges(server)] == [True, False]


def test_the_total_of_the_first_answer_is_remembered(tmp_path, server):
    path = tmp_path / "w.pth"
    first = answer("200 OK", DATA[:1000], Content_Length=len(DATA))
    other = answer("206 Partial Content", REST[:-5], Content_Range=None)
    server.answers = [first, other, WHOLE]
    download(server.url, path)
    assert path.read_bytes() == DATA
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "validator",
    [b'"v1"\r\nX-Injected: 1', b'"v1"\nX: 1', b"\xff\xfe\x00", b"x" * 10_000, b"", b"\n12"],
)
def test_a_damaged_validator_is_no_header(validator, tmp_path, server):
    path = begun(tmp_path, DATA[:1000], validator)
    server.answers = [WHOLE]
    download(server.url, path)
    assert path.read_bytes() == DATA
    assert not [h for h in server.requests[0] if h.startswith(("Range", "If-Range", "X"))]


BROKEN = {
    "a cut chunked body": answer(
        "200 OK", b"3e8\r\n" + DATA[:500], Content_Length=None, Transfer_Encoding="chunked"
    ),
    "no status": b"what?\r\n\r\n",
    "nothing": b"",
    "a cut body": answer("200 OK", DATA[:500], Content_Length=len(DATA)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_answer_is_tried_again(kind, tmp_path, server):
    path = tmp_path / "w.pth"
    server.answers = [BROKEN[kind], WHOLE]
    download(server.url, path)
    assert path.read_bytes() == DATA
    path.unlink()
    server.answers = [BROKEN[kind]]
    with pytest.raises(DownloadError, match="cannot be had"):
        download(server.url, path)
    assert not path.exists()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/w.pth", "data:,x"])
def test_redirects_to_other_schemes_are_refused(target, tmp_path, server):
    server.answers = [answer("302 Found", Location=target)]
    with pytest.raises(DownloadError, match="302"):
        download(server.url, tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


def test_redirects_keep_encryption():
    import urllib.error
    import urllib.request

    request = urllib.request.Request("https://example.org/a")
    for target, followed in (("http://example.org/b", False), ("https://cdn.example.org/b", True)):
        arguments = request, None, 302, "Found", {}, target
        if followed:
            assert _Redirects().redirect_request(*arguments).full_url == target
        else:
            with pytest.raises(urllib.error.HTTPError, match="from https: to http:"):
                _Redirects().redirect_request(*arguments)


def test_other_addresses_are_refused(tmp_path):
    for url in ("file:///etc/passwd", "w.pth"):
        with pytest.raises(DownloadError, match="http: or https:"):
            download(url, tmp_path / "w.pth")
