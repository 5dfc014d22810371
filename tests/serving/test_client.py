"""The client against a server that speaks TF Serving's protocols in front of the export."""

import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import keras
import numpy as np
import pytest
from common import assert_same_detections
from fresh_process import imported
from PIL import Image
from serving.conftest import EXPORTED_NAME, cells

from keras_gflv2 import cli
from keras_gflv2.images import read_image
from keras_gflv2.serving import ServingClient, ServingError

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the server does not see the backend"
)


@pytest.fixture(scope="module")
def ports(exported):
    """Ports of REST and gRPC of a server in a process of its own."""
    script = Path(__file__).parents[2] / "examples" / "model_server.py"
    command = [sys.executable, script, EXPORTED_NAME, Path(exported).parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield [urlsplit(url).port for url in process.stdout.readline().split()[1:]]
        process.kill()


@pytest.fixture(params=["http", "grpc"])
def url(request, ports):
    return f"{request.param}://localhost:{ports[request.param == 'grpc']}"


def test_detections_equal_those_of_the_model(url, model, pictures):
    client = ServingClient(f"{url}/{EXPORTED_NAME}")
    sources = [*pictures[:3], cells(11, (90, 333))]
    found = client.detect(sources, score_threshold=0.2, batch_size=3)
    images = [read_image(p) for p in pictures[:3]] + sources[3:]
    wanted = model.detect(images, score_threshold=0.2)
    assert sum(len(w["boxes"]) for w in wanted) > 3
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["status"] == "ok" and set(ours) == {*theirs, "status"}
        assert_same_detections(ours, theirs, threshold=0.2)
        assert ours["class_names"] == [model.class_names[label] for label in ours["classes"]]


def test_tiles_are_found_as_by_the_model(url, model):
    client, image = ServingClient(f"{url}/{EXPORTED_NAME}"), cells(3, (240, 480))
    options = {"score_threshold": 0.2, "coverage": 0.8, "tile": 240, "overlap": 0.4}
    (found,), (wanted,) = (detector.detect(image, **options) for detector in (client, model))
    assert len(wanted["boxes"]) > 3 and set(found) == {*wanted, "status"}
    assert_same_detections(found, wanted, threshold=0.2)
    assert found["class_names"] == [model.class_names[label] for label in found["classes"]]


def test_intervals_equal_those_of_the_model(url, model, pictures):
    client = ServingClient(f"{url}/{EXPORTED_NAME}")
    found = client.detect(pictures[:2], coverage=0.8)
    wanted = model.detect([read_image(p) for p in pictures[:2]], coverage=0.8)
    for ours, theirs in zip(found, wanted, strict=True):
        assert len(ours["boxes"]) > 3
        for one, other in zip(ours["intervals"], theirs["intervals"], strict=True):
            np.testing.assert_allclose(one, other, atol=0.6)
    with pytest.raises(ValueError, match="less than 1"):
        client.detect(pictures[0], coverage=1.0)
    assert client.detect(b"not an image", coverage=0.8)[0]["intervals"].shape == (0, 4, 2)


def test_a_bad_image_has_a_status_and_the_server_goes_on(url, pictures):
    client = ServingClient(url, EXPORTED_NAME, version=1)
    found = client.detect([b"not an image", pictures[0], b""])
    assert [one["status"] == "ok" for one in found] == [False, True, False]
    assert [len(one["boxes"]) > 0 for one in found] == [False, True, False]
    assert client.detect(pictures[0])[0]["status"] == "ok"


def test_errors_name_the_server_and_what_is_wrong(url, pictures):
    with pytest.raises(ServingError, match="not found"):
        ServingClient(url, "another").detect(pictures[:1])
    with pytest.raises(ServingError, match="not found"):
        ServingClient(url, EXPORTED_NAME, version=9).detect(pictures[:1])
    with pytest.raises(ServingError, match=r"localhost"):
        ServingClient(url, EXPORTED_NAME, timeout=1e-4).detect(pictures[:1])
    scheme = url.split(":")[0]
    with pytest.raises(ServingError, match="localhost:9"):
        ServingClient(f"{scheme}://localhost:9", EXPORTED_NAME, timeout=5).detect(pictures[:1])


DETECTIONS = {
    "boxes": [[0, 1, 2, 3]],
    "classes": [1],
    "confidence": [0.9],
    "class_names": ["cell"],
    "status": "ok",
}
BAD_ANSWERS = {
    "nothing": b"",
    "cut within the body": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
    "cut within a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    "no status": b"hello\r\n\r\n",
    "an error without its text": b"HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nno",
    "no JSON": "<html>",
    "another JSON": [1, 2],
    "no predictions": {"outputs": []},
    "too few predictions": {"predictions": []},
    "predictions that are numbers": {"predictions": [1, 2]},
    "a key is missing": {"predictions": [{k: v for k, v in DETECTIONS.items() if k != "status"}]},
    "lengths differ": {"predictions": [{**DETECTIONS, "classes": [1, 2]}]},
    "too many predictions": {"predictions": [DETECTIONS] * 2},
    "text for numbers": {"predictions": [{**DETECTIONS, "confidence": ["high"]}]},
    "boxes of three numbers": {"predictions": [{**DETECTIONS, "boxes": [[0, 1, 2]]}]},
    "uncertainties of three": {"predictions": [{**DETECTIONS, "uncertainties": [[0, 1, 2]]}]},
}


@pytest.fixture
def answering():
    """Starts servers that give one answer, whatever they are asked; returns their addresses."""
    sockets = []

    def start(answer):
        if not isinstance(answer, bytes):
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        server = socket.create_server(("localhost", 0))
        sockets.append(server)
        requests = []

        def serve():
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as stream:
                line, length = stream.readline(), 0
                requests.append(line.decode())
                while line.strip():
                    line = stream.readline()
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                stream.read(length)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://localhost:{server.getsockname()[1]}", requests

    yield start
    for server in sockets:
        server.close()


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_answers_that_are_none_are_errors_of_the_server(answering, answer):
    url, _ = answering(BAD_ANSWERS[answer])
    with pytest.raises(ServingError, match=r"'cells'|models/cells"):
        ServingClient(url, "cells", timeout=5).detect(b"a file")


@pytest.mark.parametrize(
    "path, asked",
    [
        ("/cells", "/v1/models/cells:predict"),
        ("/v1/models/cells", "/v1/models/cells:predict"),
        ("/v1/models/cells/versions/3:predict", "/v1/models/cells/versions/3:predict"),
        ("/my%20cells/", "/v1/models/my%20cells:predict"),
    ],
)
def test_the_path_of_a_url_names_the_model(answering, path, asked):
    url, requests = answering({"predictions": [DETECTIONS]})
    (found,) = ServingClient(url + path).detect(b"a file")
    assert found["class_names"] == ["cell"] and found["boxes"].tolist() == [[0, 1, 2, 3]]
    assert requests[0].split()[1] == asked


def test_the_server_sees_what_the_model_sees(tmp_path):
    """Files as they are; of the rest the pixels of `read_image`."""
    client, sent = ServingClient("http://localhost:1/cells"), []
    client._send = lambda encoded: (
        sent.extend(encoded)
        or {name: np.array([value] * len(encoded)) for name, value in DETECTIONS.items()}
    )
    orientation = Image.Exif()
    orientation[0x0112] = 6
    photo = tmp_path / "phone.png"
    Image.fromarray(cells(0, (40, 80))).save(photo, exif=orientation)
    deep = np.linspace(0, 65535, 3200).reshape(40, 80).astype("uint16")
    grey, rgba = cells(1, (30, 20))[..., 0], np.dstack([cells(1, (30, 20)), cells(2, (30, 20))])
    sources = [
        Image.open(photo),
        Image.fromarray(deep),
        deep,
        grey,
        grey[..., None],
        rgba[..., :4],
        cells(3, (20, 30)).astype("float32"),
    ]
    client.detect([photo, str(photo), photo.read_bytes()])
    assert set(sent) == {photo.read_bytes()}
    sent.clear()
    client.detect(sources)
    for content, source in zip(sent, sources, strict=True):
        np.testing.assert_array_equal(read_image(content), read_image(source))


def test_errors_of_the_users_own_files_name_them(tmp_path):
    client = ServingClient("http://localhost:1/cells")
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        client.detect(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
        client.detect(tmp_path)
    with pytest.raises(ValueError, match=r"shape=\(3, 4, 5\)"):
        client.detect(np.zeros((3, 4, 5), "uint8"))


def test_urls_that_cannot_be_meant():
    for url in ("localhost:8501", "ftp://localhost", "http://"):
        with pytest.raises(ValueError, match="http://HOST"):
            ServingClient(url, "cells")
    with pytest.raises(ValueError, match="v1/models/MODEL"):
        ServingClient("http://localhost:8501/v1/models/cells/metadata")
    with pytest.raises(ValueError, match="Which model"):
        ServingClient("http://localhost:8501")


def test_clients_at_once_with_bad_images_among_good_ones(url, pictures):
    """The load test of `benchmarks/serving_load.py`, for a few seconds."""
    client_files = [*pictures, b"bad"]

    def ask(seed):
        client = ServingClient(url, EXPORTED_NAME)
        chosen = np.random.default_rng(seed).choice(len(client_files), 4)
        found = client.detect([client_files[i] for i in chosen])
        return [(found[k]["status"] == "ok") == (i < len(pictures)) for k, i in enumerate(chosen)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(right) for right in pool.map(ask, range(8)))


def test_a_server_without_uncertainties_works(answering, tmp_path, capsys):
    """Exports of earlier versions, and detectors without distributions."""
    url, _ = answering({"predictions": [DETECTIONS]})
    (found,) = ServingClient(url, "cells").detect(b"a file")
    assert found["boxes"].tolist() == [[0, 1, 2, 3]] and "uncertainties" not in found
    url, _ = answering({"predictions": [{**DETECTIONS, "uncertainties": [[1, 2, 3, 4]]}]})
    (found,) = ServingClient(url, "cells").detect(b"a file")
    assert found["uncertainties"].dtype == np.float32
    assert found["uncertainties"].tolist() == [[1, 2, 3, 4]]

    Image.fromarray(cells(0, (20, 30))).save(tmp_path / "a.png")
    command = ["predict", str(tmp_path / "a.png"), "--output", str(tmp_path / "out"), "--server"]
    url, _ = answering({"predictions": [DETECTIONS]})
    assert cli.main([*command, f"{url}/cells"]) == 0
    (result,) = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert "uncertainties" not in result
    url, _ = answering({"predictions": [DETECTIONS]})
    assert cli.main([*command, f"{url}/cells", "--draw-uncertainties"]) == 2
    assert "no uncertainties to draw" in capsys.readouterr().err


def test_predict_with_a_server(url, pictures, tmp_path, capsys):
    for index, content in enumerate(pictures[:2]):
        (tmp_path / f"{index}.jpg").write_bytes(content)
    served = f"{url}/{EXPORTED_NAME}"
    arguments = ["predict", "--server", served, "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, str(tmp_path)]) == 0
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(results) > 0 and all(min(r["uncertainties"]) > 0 for r in results)
    assert (tmp_path / "out" / "0.jpg").is_file()
    assert cli.main([*arguments, "--image-size", "8", "8", str(tmp_path / "0.jpg")]) == 2
    assert "fixed when a model is exported" in capsys.readouterr().err


def test_predict_with_a_server_needs_neither_tensorflow_nor_keras(ports, pictures, tmp_path):
    (tmp_path / "a.jpg").write_bytes(pictures[0])
    command = ["predict", tmp_path / "a.jpg", "--server", f"http://localhost:{ports[0]}/cells"]
    found = imported("-m", "keras_gflv2.cli", *command, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "a.jpg").is_file()
    assert not found & {"tensorflow", "keras", "jax", "torch"}


def test_an_exported_version_is_not_written_a_second_time(exported, capsys):
    assert cli.main(["export", "--model", "nano_bccd", "--output", exported]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_saved_model_cli_shows_and_runs_it(exported, tmp_path):
    """TensorFlow's own tool, on a picture as an array."""
    np.save(tmp_path / "images.npy", cells(0, (240, 320))[None])
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    place = ["--dir", exported, "--tag_set", "serve", "--signature_def", "serving_default"]
    shown = subprocess.run([*command, "show", *place], capture_output=True, text=True)
    assert "inputs['images']" in shown.stdout and "outputs['num_detections']" in shown.stdout
    inputs = ["--inputs", f"images={tmp_path / 'images.npy'}", "--outdir", str(tmp_path)]
    done = subprocess.run([*command, "run", *place, *inputs], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.load(tmp_path / "boxes.npy").shape == (1, 100, 4)
