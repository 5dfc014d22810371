"""One picture, one truth: the graph of an export and PIL give the same pixels, or a status."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from common import small_model
from PIL import Image
from serving import picture_files
from serving.conftest import encode

from keras_gflv2 import images
from keras_gflv2.images import read_image
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.serving import headers
from keras_gflv2.serving.decoding import decode
from keras_gflv2.serving.signatures import Signatures

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same graph on every backend"
)
# The stored pixels that each orientation shows (TIFF 6.0): rows and columns, then transposed.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image[::-1].transpose(1, 0, 2),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image[:, ::-1].transpose(1, 0, 2),
}


def by_graph(file):
    """Pixels, or the status of a file that is refused."""
    header = headers.read_header(tf.constant(file))
    if header[0] != headers.OK:
        return int(header[0])
    return decode(tf.constant(file), header).numpy()


def differences(files):
    """The files whose pixels by the graph are not those by PIL."""
    found = {name: (by_graph(file), read_image(file)) for name, file in files.items()}
    return {
        name: ours if isinstance(ours, int) else np.abs(ours.astype(int) - theirs).max()
        for name, (ours, theirs) in found.items()
        if isinstance(ours, int) or ours.shape != theirs.shape or (ours != theirs).any()
    }


def test_files_of_every_kind_have_one_truth():
    assert differences(picture_files.kinds()) == {}


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of damaged EXIF
def test_orientations_are_followed_by_both():
    files = picture_files.turned()
    assert differences({name: file for name, (file, _) in files.items()}) == {}
    wrong = []
    for name, (file, orientation) in files.items():
        stored = read_image(file, exif=False)
        if not np.array_equal(read_image(file), UPRIGHT[orientation](stored)):
            wrong.append(name)
        if images.read_image_size(file) != (*stored.shape[:2], orientation):
            wrong.append(f"{name}: size")
    assert wrong == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_the_graph_would_see_otherwise_is_refused():
    for name, file in picture_files.unsupported().items():
        assert read_image(file).ndim == 3
        assert by_graph(file) == headers.UNSUPPORTED, name


def test_transparent_pixels_have_the_color_that_is_stored():
    color = (200, 30, 90)
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *color])
    for kind in ("GIF", "PNG"):
        file = encode(image, kind, transparency=1)
        assert (read_image(file) == color).all() and (by_graph(file) == color).all()
    file = encode(Image.new("RGBA", (8, 8), (*color, 0)), "WEBP", lossless=True, exact=True)
    assert (read_image(file) == color).all() and (by_graph(file) == color).all()


@pytest.fixture(scope="module")
def signatures():
    decoder = PredictionDecoder(score_threshold=0.001)  # an untrained model finds something
    model = small_model(image_size=(64, 96), prediction_decoder=decoder)
    return Signatures(model, images.MAX_PIXELS)


def statuses(signatures, files):
    found = signatures.files(tf.constant(files))
    return [status.decode() for status in found["status"].numpy()]


def test_damaged_files_have_a_status_and_no_detections(signatures):
    files = picture_files.damaged()
    good = encode(picture_files.PHOTO)
    found = signatures.files(tf.constant([good, *files.values(), good]))
    said = dict(zip(files, found["status"].numpy()[1:-1]))
    assert {
        name for name, status in said.items() if not status.startswith(b"not an image")
    } == set()
    for file in files.values():
        with pytest.raises(ValueError, match="image"):
            read_image(file)
    count = found["num_detections"].numpy()
    assert count[0] == count[-1] > 0 and (count[1:-1] == 0).all()
    np.testing.assert_allclose(found["boxes"][0], found["boxes"][-1], atol=1e-3)


def test_huge_pictures_are_refused_before_they_are_decoded(signatures):
    files = picture_files.huge()
    said = dict(zip(files, statuses(signatures, list(files.values()))))
    # The pixels that a BMP declares must be there: it cannot be a bomb.
    assert said.pop("BMP").startswith("not an image")
    assert {status.split(" than")[0] for status in said.values()} == {"more pixels"}
    for file in files.values():
        with pytest.raises(ValueError, match=r"pixels|limit"):
            read_image(file)


def test_a_request_runs_in_chunks(monkeypatch, signatures):
    """200 pictures of one pixel, each enlarged to the model's size, cost what a few do."""
    batches = []
    run = signatures._one_canvas

    def record(batch, *arguments):
        batches.append(tuple(batch.shape))
        return run(batch, *arguments)

    monkeypatch.setattr(signatures, "_one_canvas", record)
    pixel, wide = encode(np.zeros((1, 1, 3), "uint8"), "PNG"), encode(picture_files.PHOTO)
    assert set(statuses(signatures, [pixel, wide] * 5)) == {"ok"}
    assert sum(batch[0] for batch in batches) == 10
    assert max(batch[0] * batch[1] * batch[2] for batch in batches) <= 2 * 64 * 96
    assert {batch[1:3] for batch in batches} == {(64, 64), (64, 96)}
    batches.clear()
    line = encode(np.zeros((1, 60_000, 3), "uint8"), "PNG")  # not a row of 60,000 x 64 pixels
    assert statuses(signatures, [line]) == ["ok"]
    assert batches == [(1, 32, 96, 3)]


def test_limits_of_a_request(monkeypatch, signatures):
    monkeypatch.setattr("keras_gflv2.serving.pictures.MAX_IMAGES", 3)
    pixel = encode(np.zeros((1, 1, 3), "uint8"), "PNG")
    said = statuses(signatures, [pixel, b"", pixel, pixel, b""])
    assert [status.split()[0] for status in said] == ["ok", "not", "ok", "more", "more"]
    assert "in one request" in said[3]
    small = Signatures(signatures.model, 100)
    monkeypatch.setattr("keras_gflv2.serving.pictures.MAX_TOTAL", 2)
    said = statuses(small, [encode(np.zeros((9, 10, 3), "uint8"), "PNG")] * 3)
    assert [status.split()[0] for status in said] == ["ok", "ok", "more"]


def test_padding_has_the_color_of_the_backbone(monkeypatch, signatures):
    monkeypatch.setattr(type(signatures.model), "padding_color", (1.0, 2.0, 3.0))
    seen = []
    monkeypatch.setattr(
        signatures,
        "_one_canvas",
        lambda batch, *rest: seen.append(batch.numpy()) or run(batch, *rest),
    )
    run = Signatures._one_canvas.__get__(signatures)
    signatures.files(tf.constant([encode(np.zeros((50, 100, 3), "uint8"), "PNG")]))
    (batch,) = seen  # 48 x 96 on 64 x 96
    assert (batch[0, 48:] == (1, 2, 3)).all() and (batch[0, :48] == 0).all()
