"""The app's server: what it answers, whom it answers, and which files it never reads."""

import http.client
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from keras_gflv2 import cli, images
from keras_gflv2.app.examples import Examples
from keras_gflv2.app.kept import Kept

pytest.importorskip("starlette", reason='the extra "app" is not installed')
from keras_gflv2.app import server as server_module

EXIF_ORIENTATION = 0x0112


def boxes_of(answer):
    return np.array([row["box"] for row in answer["detections"]])


# === Detections ===


def test_results_are_those_of_predict(client, folder, trained, tmp_path):
    trained[0].save(tmp_path / "model.keras")
    images_of = [str(folder / name) for name in ("one.png", "two.png")]
    command = ["predict", *images_of, "--model", str(tmp_path / "model.keras"), "--verbose", "0"]
    command += ["--output", str(tmp_path / "found"), "--formats", "json"]
    assert cli.main([*command, "--score-threshold", "0.05"]) == 0
    expected = json.loads((tmp_path / "found" / "detections.json").read_text())
    found = []
    for name in ("one.png", "two.png"):
        answer = client.detect(folder / name)
        found += [row["result"] for row in answer["detections"]]
        assert (answer["width"], answer["height"]) == (128, 96)
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(found, expected):
        assert set(theirs) - set(ours) == {"image_id", "file_name"}
        assert ours["category_name"] == theirs["category_name"]
        for key in ("score", "bbox", "uncertainties"):
            np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-3)


def test_photos_are_turned_upright(client, folder, tmp_path):
    upright = Image.open(folder / "one.png")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned, expected = client.detect(tmp_path / "turned.png"), client.detect(folder / "one.png")
    assert (turned["width"], turned["height"]) == (128, 96)
    np.testing.assert_allclose(boxes_of(turned), boxes_of(expected), atol=0.01)
    assert turned["picture"] == expected["picture"]


def test_a_token_is_decoded_again(client, folder):
    answer = client.detect(folder / "one.png")
    before = client.server.num_images
    for threshold in (0.1, 0.9):
        status, again = client.post("/api/decode", token=answer["token"], nms_threshold=threshold)
        assert status == 200 and again["nms_threshold"] == threshold
        one_step = client.post(
            "/api/detect",
            (folder / "one.png").read_bytes(),
            name="one.png",
            nms_threshold=threshold,
        )[1]
        assert again["detections"] == one_step["detections"]
    assert client.server.num_images == before + 2


def test_an_example_is_found_by_its_name(client, folder):
    status, answer = client.post("/api/detect", example="two.png")
    assert status == 200
    assert answer["detections"] == client.detect(folder / "two.png")["detections"]


def test_visitors_do_not_mix(client, folder, detector, monkeypatch):
    """Many at a time: everybody gets the own detections; the detector runs one at a time."""
    inside, most, look = [], [], detector.look

    def watched(pixels):
        inside.append(pixels)
        most.append(len(inside))
        found = look(pixels)
        inside.pop()
        return found

    monkeypatch.setattr(detector, "look", watched)
    expected = {name: client.detect(folder / name)["detections"] for name in ("one.png", "two.png")}
    assert expected["one.png"] != expected["two.png"]
    wrong = []

    def visit(name):
        for _ in range(3):
            answer = client.detect(folder / name)
            again = client.post("/api/decode", token=answer["token"])[1]
            if not answer["detections"] == again["detections"] == expected[name]:
                wrong.append(name)

    visitors = [threading.Thread(target=visit, args=(name,)) for name in [*expected] * 3]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong and len(most) == 2 + 18 and max(most) == 1


def test_the_last_images_are_kept_within_a_limit():
    kept = Kept(max_bytes=1000)
    arrays = [np.full(100, i, "float32") for i in range(3)]  # 400 bytes each
    first, second = kept.add(arrays[0]), kept.add(arrays[1])
    assert kept.get(first) is arrays[0]  # asked for: the second one is older now
    third = kept.add(arrays[2])
    assert kept.get(second) is None
    assert kept.get(first) is arrays[0] and kept.get(third) is arrays[2]
    large = kept.add(np.zeros(1000))
    assert kept.get(large) is not None and kept.get(first) is None
    assert len({first, second, third, large}) == 4


# === What is refused ===


def png(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 400, "x.jpg is empty"),
        (b"hello, I am text", 422, "x.jpg is not an image that PIL can read"),
        (b"\xff\xd8\xff\xe0" + bytes(50), 422, "x.jpg is not an image"),
        ("cut short", 422, "x.jpg cannot be decoded"),
        (bytes(200_001), 413, "x.jpg is larger than the 0.2 MB that are accepted"),
        (png(3000, 3000), 422, "x.jpg has 3000 x 3000 pixels, more than the 1 million"),
    ],
)
def test_what_cannot_be_looked_at_is_told(client, content, status, said, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1_000_000)
    if content == "cut short":
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")
        Image.fromarray(noise).save(file, "JPEG")
        content = file.getvalue()[:-500]
    before = client.server.num_images
    found, answer = client.post("/api/detect", content, name="x.jpg")
    assert found == status and said in answer["error"], answer
    assert client.server.num_images == before


def test_a_body_without_a_length_is_limited_too(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port)
    parts = (bytes(50_000) for _ in range(6))
    connection.request("POST", "/api/detect?name=x.jpg", parts, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413 and "x.jpg is larger" in json.load(answer)["error"]


@pytest.mark.parametrize("text", ["-0.1", "1.5", "nan", "x"])
def test_a_threshold_is_a_number(client, text):
    status, answer = client.post("/api/detect", b"x", nms_threshold=text)
    assert status == 400 and "from 0 to 1" in answer["error"]


def test_tokens_of_nobody_find_nothing(client):
    status, answer = client.post("/api/decode", token="guessed")
    assert status == 410 and "send it once more" in answer["error"]


def test_few_wait(client, folder, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_WAITING", 0)
    status, answer = client.post("/api/detect", (folder / "one.png").read_bytes())
    assert status == 503 and "Too many images" in answer["error"]


def test_errors_of_the_detector_are_sentences(client, detector, folder, monkeypatch):
    content = (folder / "one.png").read_bytes()
    monkeypatch.setattr(client.server, "_explain", cli.user_message)
    for error, said in ((MemoryError(), "not enough memory"), (TypeError("x"), "its terminal")):

        def fail(pixels, error=error):
            raise error

        monkeypatch.setattr(detector, "look", fail)
        status, answer = client.post("/api/detect", content)
        assert status == 500 and said in answer["error"]


# === Files and visitors ===


@pytest.fixture
def guarded(tmp_path):
    """A folder of examples beside files that are not to be read."""
    folder = tmp_path / "examples"
    (folder / "inside").mkdir(parents=True)
    for path in ("examples/a.png", "secret.png", "examples/inside/b.png", "examples/.hidden.png"):
        (tmp_path / path).write_bytes(png(8, 8))
    (folder / "notes.txt").write_text("x")
    (folder / "text.png").write_text("a secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "same.png").symlink_to("a.png")
    return folder


def test_no_other_file_can_be_read(start, detector, guarded, tmp_path):
    client = start(detector, examples=Examples(guarded))
    names = json.loads(client.request("GET", "/api/examples")[2])["names"]
    assert names == ["a.png", "same.png", "text.png"]
    assert client.request("GET", "/api/thumbnail", name="a.png")[0] == 200
    hidden = ["../secret.png", str(tmp_path / "secret.png"), "inside/b.png", "link.png"]
    hidden += [".hidden.png", "notes.txt", "..%2fsecret.png", "a.png/../../secret.png", "", "."]
    hidden += ["x\0.png", "/etc/passwd", "~/a.png"]
    for name in hidden:
        assert client.request("GET", "/api/thumbnail", name=name)[0] == 404
        status, answer = client.post("/api/detect", example=name)
        assert status == 404 and "There is no example" in answer["error"]
    # Not even the bytes of an example leave as they are.
    status, _, content = client.request("GET", "/api/thumbnail", name="text.png")
    assert status == 422 and b"a secret" not in content
    for path in ("/../secret.png", "/%2e%2e/secret.png", "/examples/a.png", "/etc/passwd", "/api"):
        assert client.request("GET", path)[0] == 404


def test_examples_are_as_large_as_other_images(start, detector, guarded):
    client = start(detector, examples=Examples(guarded), max_bytes=10)
    status, answer = client.post("/api/detect", example="a.png")
    assert status == 413 and "a.png has" in answer["error"]


def test_without_examples_there_are_none(start, detector):
    client = start(detector)
    assert json.loads(client.request("GET", "/api/examples")[2]) == {"names": []}
    assert client.post("/api/detect", example="a.png")[0] == 404


def test_a_folder_needs_images(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        Examples(tmp_path / "absent")
    with pytest.raises(ValueError, match="has no image directly in it"):
        Examples(tmp_path)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name of another site that leads to this machine
        {"Host": "["},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_are_not_answered(client, headers):
    status, answer = client.post("/api/detect", b"x", headers)
    assert status == 403 and "open its own address" in answer["error"]
    own = {"Origin": client.address}
    assert client.post("/api/detect", b"x", own)[0] == 422


def test_the_page_fetches_nothing_from_elsewhere(client):
    status, headers, content = client.request("GET", "/")
    assert status == 200 and b"{{" not in content and b"http" not in content
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'")
    assert "http" not in policy and "*" not in policy
    for name in ("app.js", "app.css", "vega.js"):
        assert client.request("GET", f"/{name}")[0] == 200
