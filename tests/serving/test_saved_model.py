"""The exported detector gives what the model gives, for every kind of file, and without Keras."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from common import SETS, assert_same_detections, small_model
from serving import picture_files
from serving.conftest import cells, encode
from tensorflow_serving.apis import prediction_log_pb2

import keras_gflv2
from keras_gflv2.backbones import ResNet
from keras_gflv2.images import read_image
from keras_gflv2.serving import export_saved_model
from keras_gflv2.serving.folding import fold_batch_norm

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same graph on every backend"
)


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(exported)


def run(served, files, signature="serving_bytes", **inputs):
    found = served.signatures[signature](image_bytes=tf.constant(files), **inputs)
    return {key: value.numpy() for key, value in found.items()}


def assert_equals_detect(found, row, wanted, score=1e-3, pixels=0.5):
    """The same set: on some processors near ties change places."""
    count = found["num_detections"][row]
    assert count == len(wanted["boxes"])
    one = {key: found[key][row] for key in SETS}
    assert_same_detections(one, wanted, score, pixels)
    name_of = dict(zip(wanted["classes"], wanted["class_names"]))
    names = [name.decode() for name in found["class_names"][row][:count]]
    assert names == [name_of[label] for label in one["classes"][:count]]
    for key in ("boxes", "classes", "uncertainties"):
        assert (one[key][count:] == -1).all()


def test_files_of_different_sizes_give_what_detect_gives(served, model, pictures):
    """Also on JAX and PyTorch, whose exports another process writes."""
    wanted = model.detect([read_image(p) for p in pictures], score_threshold=0.05)
    assert sum(len(w["boxes"]) for w in wanted) > 20
    found = run(served, pictures)
    assert set(found["status"]) == {b"ok"}
    for row, one in enumerate(wanted):
        assert_equals_detect(found, row, one)
    alone = run(served, pictures[-1:])
    assert_equals_detect(alone, 0, wanted[-1])


@tensorflow_only
def test_the_export_of_the_repository_is_that_of_the_preset(model, pictures):
    folder = Path(__file__).parents[2] / "saved_models" / "nano_bccd" / "1"
    (wanted,) = model.detect([read_image(pictures[0])], score_threshold=0.05)
    assert_equals_detect(run(tf.saved_model.load(str(folder)), pictures[:1]), 0, wanted)


@tensorflow_only
def test_images_and_raw_give_what_predict_and_call_give(served, model):
    images = np.stack([cells(seed, (200, 300)) for seed in range(2)])
    wanted = model.predict_on_batch(images.astype("float32"))
    for name, dtype in (("default", "uint8"), ("images", "uint8"), ("images_float", "float32")):
        found = served.signatures[f"serving_{name}"](images=tf.constant(images.astype(dtype)))
        assert set(found) == set(wanted)
        np.testing.assert_array_equal(found["num_detections"], wanted["num_detections"], name)
        last = wanted["confidence"].min()
        assert_same_detections(found, wanted, threshold=last, uncertainty=1e-3)
    raw = served.signatures["raw"](images=tf.constant(images, tf.float32))
    for key, value in model(images.astype("float32")).items():
        np.testing.assert_allclose(raw[key], value, atol=1e-4)


@tensorflow_only
def test_a_bad_file_has_a_status_and_the_others_their_detections(served, model, pictures):
    """`test_decoding.py` has the kinds of files; here they pass through a server's graph."""
    good = pictures[0]
    bad, huge = list(picture_files.damaged().values()), list(picture_files.huge().values())
    found = run(served, [good, *bad, *huge, good])
    (wanted,) = model.detect([read_image(good)], score_threshold=0.05)
    for row in (0, -1):
        assert found["status"][row] == b"ok"
        assert_equals_detect(found, row, wanted)
    assert set(found["status"][1 : len(bad) + 1]) == {b"not an image that can be decoded"}
    assert b"ok" not in set(found["status"][1:-1])
    assert (found["num_detections"][1:-1] == 0).all() and (found["boxes"][1:-1] == -1).all()
    # A batch of nothing else, and a batch of nothing.
    assert run(served, [b"", b"x"])["num_detections"].tolist() == [0, 0]
    assert run(served, np.zeros(0, object))["boxes"].shape == (0, 100, 4)


@tensorflow_only
@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of damaged EXIF
def test_files_of_every_kind_give_what_detect_gives(served, model):
    files = list(picture_files.kinds().values())
    files += [file for name, (file, _) in picture_files.turned().items() if "type" not in name]
    found = run(served, files)
    assert set(found["status"]) == {b"ok"}
    for row, wanted in enumerate(model.detect(files, score_threshold=0.05)):
        assert_equals_detect(found, row, wanted)


@tensorflow_only
def test_thresholds_in_the_request(served, pictures):
    files = [pictures[0], pictures[0], pictures[0]]
    found = run(
        served,
        files,
        "serving_bytes_options",
        score_threshold=tf.constant([0.05, 0.5, 0.05]),
        nms_iou_threshold=tf.constant([0.6, 0.6, 0.05]),
    )
    plain = run(served, files[:1])
    counts = found["num_detections"]
    assert counts[0] == plain["num_detections"][0]
    assert counts[1] == (plain["confidence"][0] > 0.5).sum() < counts[0]
    assert counts[2] < counts[0]


@tensorflow_only
def test_settings_of_the_export(model, pictures, tmp_path):
    directory = export_saved_model(
        model, tmp_path / "cells" / "7", score_threshold=0.4, max_detections=5, max_pixels=40_000
    )
    served = tf.saved_model.load(directory)
    found = run(served, [pictures[-1], encode(cells(0, (210, 200)))])
    assert found["boxes"].shape == (2, 5, 4)
    assert (found["confidence"][found["confidence"] > 0] > 0.4).all()
    assert [s[:4] for s in found["status"]] == [b"ok", b"more"]
    assert model.prediction_decoder.max_detections == 100  # the model is as it was


def test_a_fresh_process_with_tensorflow_alone_runs_it(exported, pictures, tmp_path):
    file = tmp_path / "picture"
    file.write_bytes(pictures[0])
    script = (
        "import sys; sys.modules['keras'] = sys.modules['keras_gflv2'] = None;"
        "import tensorflow as tf; served = tf.saved_model.load(sys.argv[1]);"
        "found = served.signatures['serving_bytes'](tf.constant([open(sys.argv[2], 'rb').read()]));"
        "print('found', int(found['num_detections'][0]))"
    )
    command = [sys.executable, "-c", script, exported, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("found")[1]) > 0


@tensorflow_only
def test_assets(exported, model):
    folder = Path(exported)
    names = (folder / "assets" / "class_names.txt").read_text().split("\n")[:-1]
    assert names == model.class_names
    record = json.loads((folder / "assets" / "detector.json").read_text())
    assert record["preset"]["name"] == "nano_bccd"
    assert record["num_classes"] == 3 and record["image_size"] == list(model.image_size)
    served = tf.saved_model.load(exported)
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    signatures = []
    for line in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(line.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "cells"
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        served.signatures[request.model_spec.signature_name](**inputs)
        signatures.append(request.model_spec.signature_name)
    assert set(signatures) == {"serving_images", "serving_bytes"}


@tensorflow_only
def test_versions_are_not_overwritten_unasked(exported, model, tmp_path):
    with pytest.raises(FileExistsError, match="overwrite"):
        export_saved_model(model, exported)
    with pytest.raises(ValueError, match="version number"):
        export_saved_model(model, tmp_path / "cells" / "newest")
    assert not list(tmp_path.iterdir())

    class Broken(keras.layers.Layer):
        def call(self, *args, **kwargs):
            raise RuntimeError("cannot be traced")

    broken = small_model(prediction_decoder=Broken())
    broken.prediction_decoder.max_detections = 1
    with pytest.raises(RuntimeError):
        export_saved_model(broken, tmp_path / "cells" / "2")
    assert not list((tmp_path / "cells").iterdir())  # nothing that a server could take


def test_any_keras_model_can_be_the_backbone_of_an_export():
    keras.Input((8,))  # Keras's numbers for inputs and for their layers are no longer the same
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Normalization(mean=[100.0] * 3, variance=[900.0] * 3)(x)
    x = keras.layers.MaxPooling2D(4)(keras.layers.Conv2D(8, 3, padding="same")(x))
    convolution = keras.layers.Conv2D(8, 3, 2, "same")
    norm = keras.layers.BatchNormalization()
    outputs = {}
    for level in (3, 4, 5):  # two layers that are used three times
        outputs[f"P{level}"] = x = norm(convolution(x))
    model = small_model(backbone=keras.Model(inputs, outputs))
    norm.moving_mean.assign(np.linspace(-1, 1, 8))
    folded = fold_batch_norm(model)
    images = np.random.default_rng(0).uniform(0, 255, (1, 96, 128, 3)).astype("float32")
    for key, value in model(images).items():
        ours = keras.ops.convert_to_numpy(folded(images)[key])
        np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(value), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "groups and deformable", "live statistics"])
def test_folded_batch_norm_changes_nothing(kind):
    options = {
        "plain": {"depth": 18},
        "groups and deformable": {
            "depth": 50,
            "groups": 4,
            "width_per_group": 8,
            "deep_stem": True,
            "average_downsampling": True,
            "deformable_stages": (4,),
            "deformable_version": 2,
        },
        "live statistics": {"depth": 18, "batch_norm_statistics": "batch"},
    }[kind]
    model = small_model(backbone=ResNet(**options, base_channels=16))
    rng = np.random.default_rng(0)
    for weight in model.backbone.weights:  # statistics and offsets that are not 0 and 1
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    folded = fold_batch_norm(model)
    norms = [x for x in folded.backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert not norms
    images = rng.uniform(0, 255, (1, 96, 128, 3)).astype("float32")
    for key, value in model(images).items():
        ours = keras.ops.convert_to_numpy(folded(images)[key])
        np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(value), atol=1e-4, rtol=1e-4)


@tensorflow_only
def test_boxes_of_other_formats(tmp_path, pictures):
    model = keras_gflv2.GFLV2.from_preset("nano_bccd", bounding_box_format="rel_yxyx")
    served = tf.saved_model.load(export_saved_model(model, tmp_path / "relative" / "1"))
    (wanted,) = model.detect([read_image(pictures[0])], score_threshold=0.05)
    assert_equals_detect(run(served, pictures[:1]), 0, wanted)
    image = cells(0, (200, 300))[None]
    found = served.signatures["serving_default"](images=tf.constant(image))
    wanted = model.predict_on_batch(image.astype("float32"))
    assert_same_detections(found, wanted, pixels=1e-3)  # of relative boxes
