"""tensorflow-datasets: in memory and streamed, the same batches in evaluation."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_gflv2.data import Augmentation, Report, build_dataset, load_tfds
from keras_gflv2.data.tfds import DetectionFeatures, box_coordinates


class TinyDetection(tfds.core.GeneratorBasedBuilder):
    """Ten pictures, landscape and portrait, with 0 to 3 objects."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            "is_crowd": tfds.features.Scalar(np.bool_),
            "area": tfds.features.Scalar(np.int64),
        }
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "image/id": tfds.features.Scalar(np.int64),
            "objects": tfds.features.Sequence(objects),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        random = np.random.default_rng(0)
        for i in range(10):
            height, width = (60, 90) if i % 2 else (80, 50)
            crowds = [False, True, False][: i % 4]
            yield (
                i,
                {
                    "image": random.integers(0, 256, (height, width, 3), dtype=np.uint8),
                    "image/id": 1000 + i,
                    "objects": [
                        {
                            "bbox": tfds.features.BBox(0.1, 0.2, 0.5, 0.6),
                            "label": "b",
                            "is_crowd": crowd,
                            "area": 17,
                        }
                        for crowd in crowds
                    ],
                },
            )


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    tiny = TinyDetection(data_dir=str(tmp_path_factory.mktemp("tfds")))
    tiny.download_and_prepare()
    return tiny


@pytest.mark.parametrize("streaming", [False, True])
def test_values(builder, streaming):
    ds = load_tfds(builder, "train", batch_size=4, image_size=(80, 120), streaming=streaming)
    assert ds.class_names == ["a", "b"] and ds.num_images == 10 and len(ds) == 3
    seen = []
    for batch in ds:
        objects = batch["bounding_boxes"]
        for i, image_id in enumerate(batch["image_ids"].numpy()):
            seen.append(int(image_id))
            number = image_id - 1000
            original = (60, 90) if number % 2 else (80, 50)
            resized = (80, 120) if number % 2 else (120, 75)
            assert tuple(batch["original_sizes"][i].numpy()) == original
            assert tuple(batch["image_sizes"][i].numpy()) == resized
            count = number % 4
            np.testing.assert_array_equal(objects["classes"][i, : count + 1], [1] * count + [-1])
            np.testing.assert_array_equal(objects["ignored"][i, :count], [0, 1, 0][:count])
            height, width = resized
            box = [0.2 * width, 0.1 * height, 0.6 * width, 0.5 * height]
            np.testing.assert_allclose(
                objects["boxes"][i, :count], np.tile(box, (count, 1)), rtol=1e-5
            )
            np.testing.assert_array_equal(objects["areas"][i, :count], [17] * count)
    assert sorted(seen) == list(range(1000, 1010))


def test_memory_and_stream_give_the_same_batches(builder):
    options = {"batch_size": 4, "image_size": (64, 96), "bounding_box_format": "rel_xywh"}
    memory = load_tfds(builder, "train", streaming=False, **options)
    stream = load_tfds(builder, "train", streaming=True, **options)
    for one, other in zip(memory, stream, strict=True):
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["image_ids"], other["image_ids"])
        for key in ("boxes", "classes", "ignored", "areas"):
            short, long = one["bounding_boxes"][key], other["bounding_boxes"][key]
            np.testing.assert_array_equal(short, long[:, : short.shape[1]])
        assert other["bounding_boxes"]["classes"].shape[1] == 32


@pytest.mark.parametrize("streaming", [False, True])
def test_padding_color(builder, streaming):
    ds = load_tfds(
        builder, "train", image_size=(40, 60), streaming=streaming, padding_color=[1, 2, 3]
    )
    assert ds.padding_color == (1, 2, 3)
    batch = next(iter(ds.as_numpy_iterator()))
    height, width = batch["image_sizes"][0]
    canvas = batch["images"][0]
    outside = np.concatenate([canvas[height:].reshape(-1, 3), canvas[:, width:].reshape(-1, 3)])
    assert len(outside) and (outside == [1, 2, 3]).all()


def test_streamed_training_is_full_seeded_and_complete(builder):
    tf.random.set_seed(0)  # as keras.utils.set_random_seed does
    options = {
        "batch_size": 4,
        "image_size": ((32, 64), 96),
        "train": True,
        "seed": 3,
        "streaming": True,
        "augmentation": Augmentation(rotate90=0.5, scale=(0.5, 1.5), hue=0.1),
    }
    first, second = (load_tfds(builder, "train", **options) for _ in range(2))
    seen = []
    for one, other in zip(first, second, strict=True):
        assert one["images"].shape[0] == 4
        np.testing.assert_array_equal(one["images"], other["images"])
        seen += one["image_ids"].numpy().tolist()
    assert len(seen) == 12 and set(seen) == set(range(1000, 1010))


def test_a_streamed_epoch_has_its_own_order_wherever_it_begins(builder):
    """Order and pixels follow from seed and epoch, not from how often the dataset was read."""
    options = {"batch_size": 4, "image_size": (32, 48), "train": True, "streaming": True}
    options["augmentation"] = Augmentation(scale=(0.5, 1.5), hue=0.1)

    def batches(dataset):
        return [(b["image_ids"].numpy().tolist(), b["images"].numpy()) for b in dataset]

    def order(epoch):
        return [image_id for ids, _ in epoch for image_id in ids]

    ds = load_tfds(builder, "train", seed=3, **options)
    epochs = [batches(ds) for _ in range(3)]
    orders = [order(epoch) for epoch in epochs]
    assert len({tuple(ids) for ids in orders}) == 3
    assert all(set(ids) == set(range(1000, 1010)) for ids in orders)
    other = load_tfds(builder, "train", seed=4, **options)
    assert order(batches(other)) != orders[0]

    again = load_tfds(builder, "train", seed=3, **options)
    again.set_epoch(2)
    rest = again.from_position(1, 2)
    assert len(rest) == 1
    for found, expected in ((batches(rest), epochs[1][2:]), (batches(again), epochs[2])):
        for (ids, images), (other_ids, other_images) in zip(found, expected, strict=True):
            assert ids == other_ids
            np.testing.assert_array_equal(images, other_images)
        again.set_epoch(2)


def test_streaming_shards_read_files_of_their_own(tmp_path):
    """Together they see every image; each has its half of every batch."""
    config = tfds.download.DownloadConfig(num_shards=4)
    builder = TinyDetection(data_dir=str(tmp_path))
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["train"].num_shards == 4
    options = {"batch_size": 4, "image_size": (32, 48), "train": True, "streaming": True}
    parts = [load_tfds(builder, "train", shard=(i, 2), **options) for i in range(2)]
    seen = []
    for part in parts:
        batches = list(part)
        assert len(batches) == len(part) == 3
        assert all(len(batch["images"]) == 2 for batch in batches)
        seen.append({int(i) for batch in batches for i in batch["image_ids"]})
    assert seen[0] | seen[1] == set(range(1000, 1010)) and not seen[0] & seen[1]


def test_mosaic_cannot_be_streamed(builder):
    with pytest.raises(ValueError, match="streaming=False"):
        load_tfds(
            builder, "train", streaming=True, train=True, augmentation=Augmentation(mosaic=0.5)
        )


def test_class_names(builder):
    ds = load_tfds(builder, "train", class_names=["b", "a"], batch_size=10)
    classes = next(iter(ds))["bounding_boxes"]["classes"].numpy()
    assert set(classes.ravel()) == {-1, 0}
    with pytest.raises(ValueError, match="'c'"):
        load_tfds(builder, "train", class_names=["c"])
    with pytest.raises(ValueError, match="unknown class 'b'"):
        load_tfds(builder, "train", class_names=["a"])


def test_invalid_boxes_are_counted_while_streaming():
    """`ds.report` counts each example once, however often it is read."""
    rows = [row([(0.5, 0.2, 0.5, 0.6), (0.1, 0.2, 0.5, 0.6)]) for _ in range(3)]
    with mock_voc(rows):
        ds = load_tfds("voc/2007", "train", streaming=True, image_size=(40, 50))
        with pytest.warns(UserWarning, match="x2 <= x1"):
            list(ds)
        list(ds)
    assert ds.report["empty_boxes"] == 3


def test_published_dataset():
    """The features of voc/2007 as tfds publishes them, with rows of our own."""
    with mock_voc([row([(0.1, 0.2, 0.5, 0.6)], difficult=[True]), row([])]):
        ds = load_tfds("voc/2007", "train", image_size=(40, 50), batch_size=2)
        (batch,) = list(ds)
    assert len(ds.class_names) == 20 and ds.class_names[14] == "person"
    np.testing.assert_allclose(batch["bounding_boxes"]["boxes"][0, 0], [10, 4, 30, 20], rtol=1e-6)
    assert batch["bounding_boxes"]["classes"][0, 0] == 14
    assert batch["bounding_boxes"]["ignored"][0, 0] == 1
    assert ds.file_names == ["000001.jpg"] * 2


def test_pictures_are_read_as_they_are_stored():
    """tensorflow-datasets ignores EXIF orientations; that `detect` does not is said."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with mock_voc([row([(0.1, 0.2, 0.5, 0.6)], exif=exif)]):
        with pytest.warns(UserWarning, match=r"as they are stored.*\(000001\.jpg\)"):
            ds = load_tfds("voc/2007", "train", image_size=(40, 50))
    assert ds.report["exif_stored"] == 1
    np.testing.assert_array_equal(next(iter(ds))["original_sizes"], [[40, 50]])


def test_ids_that_are_strings():
    """`image_ids` has them as they are; the batches carry the index into it."""
    with mock_voc([row([]), row([(0.1, 0.2, 0.5, 0.6)])]):
        features = DetectionFeatures(tfds.builder("voc/2007"))
        features.id_key = "image/filename"
        records = features.read_records("train", Report("tfds"))
        ds = build_dataset(records, Report("tfds"), class_names=features.class_names)
    assert ds.image_ids == ["000001.jpg"] * 2
    np.testing.assert_array_equal(next(iter(ds))["image_ids"], [0, 1])


def test_dataset_without_boxes_is_refused():
    with tfds.testing.mock_data(num_examples=1):
        with pytest.raises(ValueError, match="mnist is not a detection dataset"):
            load_tfds("mnist", "train")


def test_box_formats():
    boxes = np.array([[0.1, 0.2, 0.5, 0.6]])
    np.testing.assert_allclose(box_coordinates(boxes, "REL_YXYX", 10, 100), [[20, 1, 60, 5]])
    np.testing.assert_allclose(box_coordinates(boxes, "REL_XYXY", 10, 100), [[10, 2, 50, 6]])
    np.testing.assert_allclose(box_coordinates(boxes * 10, "XYWH", 9, 9), [[1, 2, 6, 8]])


def row(boxes, difficult=None, exif=None):
    """One row of voc/2007 with an encoded grey picture of 40 x 50 pixels."""
    stream = io.BytesIO()
    Image.new("L", (50, 40), 99).save(stream, "PNG", exif=exif)
    count = len(boxes)
    return {
        "image": stream.getvalue(),
        "image/filename": "000001.jpg",
        "labels": [14],
        "labels_no_difficult": [14],
        "objects": {
            "bbox": np.array(boxes, "float32").reshape(-1, 4),
            "is_difficult": difficult or [False] * count,
            "is_truncated": [False] * count,
            "label": [14] * count,
            "pose": [0] * count,
        },
    }


def mock_voc(rows):
    """Lets `tfds.builder("voc/2007")` yield the given rows."""
    signature = {
        "image": tf.TensorSpec([], tf.string),
        "image/filename": tf.TensorSpec([], tf.string),
        "labels": tf.TensorSpec([None], tf.int64),
        "labels_no_difficult": tf.TensorSpec([None], tf.int64),
        "objects": {
            "bbox": tf.TensorSpec([None, 4], tf.float32),
            "is_difficult": tf.TensorSpec([None], tf.bool),
            "is_truncated": tf.TensorSpec([None], tf.bool),
            "label": tf.TensorSpec([None], tf.int64),
            "pose": tf.TensorSpec([None], tf.int64),
        },
    }

    def as_dataset(self, *args, **kwargs):
        return tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=signature)

    return tfds.testing.mock_data(num_examples=len(rows), as_dataset_fn=as_dataset)
