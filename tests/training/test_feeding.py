"""Whatever data comes as, every batch of it keeps the contract, and nothing else is drawn."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from common import random_batch, small_model

from keras_gflv2.contract import DataContract
from keras_gflv2.images import pixel_problem, pixel_statistics, read_image
from keras_gflv2.training.feeding import Feeding
from keras_gflv2.training.sources import training_size

BATCH = random_batch()
IMAGES, BOXES = BATCH["images"], BATCH["bounding_boxes"]
UNKNOWN_CLASS = {**BOXES, "classes": np.where(BOXES["classes"] >= 0, 3, -1)}


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def tf_dataset(batches):
    rows = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *batches)
    return tf.data.Dataset.from_tensor_slices(rows).batch(2, drop_remainder=True)


def ragged_dataset(batches):
    """As KerasCV has them: without a row for padding."""

    def ragged(batch):
        lengths = tf.reduce_sum(tf.cast(batch["bounding_boxes"]["classes"] >= 0, "int32"), 1)
        boxes = {
            key: tf.RaggedTensor.from_tensor(value, lengths)
            for key, value in batch["bounding_boxes"].items()
        }
        return batch["images"], {**boxes, "classes": tf.cast(boxes["classes"], "float32")}

    return tf_dataset(batches).map(ragged)


def generator(batches):
    yield from batches


def data_loader(batches):
    torch = pytest.importorskip("torch")
    rows = [
        keras.tree.map_structure(lambda array, i=i: torch.as_tensor(array[i]), batch)
        for batch in batches
        for i in range(len(batch["images"]))
    ]
    return torch.utils.data.DataLoader(rows, batch_size=2)


def lists(batch):
    """Lists of one array an image, without rows for padding."""
    counts = np.sum(batch["bounding_boxes"]["classes"] >= 0, axis=1)
    boxes = {
        key: [row[:count] for row, count in zip(value, counts)]
        for key, value in batch["bounding_boxes"].items()
    }
    return {"images": list(batch["images"]), "bounding_boxes": boxes}


def batches_of_lists(batches):
    return Batches([lists(batch) for batch in batches])


def any_iterator(batches):
    return iter([lists(batch) for batch in batches])


def detection_loader(batches, collate_fn=None):
    """One sample has as many boxes as its image, a pair as torchvision has them."""
    torch = pytest.importorskip("torch")
    rows = []
    for batch in map(lists, batches):
        boxes, classes = batch["bounding_boxes"]["boxes"], batch["bounding_boxes"]["classes"]
        for image, of_image, labels in zip(batch["images"], boxes, classes):
            target = {"boxes": torch.as_tensor(of_image), "labels": torch.as_tensor(labels)}
            rows.append((torch.as_tensor(image), target))
    return torch.utils.data.DataLoader(rows, batch_size=2, collate_fn=collate_fn)


def torchvision_loader(batches):
    return detection_loader(batches, lambda samples: tuple(zip(*samples)))


def tfds_dataset(batches):
    """The keys and boxes of TFDS, filled with zeros as `padded_batch` does."""

    def keys(batch):
        boxes, classes = batch["bounding_boxes"]["boxes"], batch["bounding_boxes"]["classes"]
        present = (classes >= 0)[..., None]
        height, width = batch["images"].shape[1:3]
        relative = np.where(present, boxes / [width, height, width, height], 0)
        objects = {
            "bbox": relative[..., [1, 0, 3, 2]].astype("float32"),
            "label": np.maximum(classes, 0),
            "is_crowd": np.zeros(classes.shape, "bool"),
        }
        names = np.array(["a.jpg"] * len(classes))
        return {"image": batch["images"], "image/filename": names, "objects": objects}

    return tf_dataset([keys(batch) for batch in batches])


def keras_cv_dataset(batches):
    """Through a layer of KerasCV, which here changes nothing."""
    keras_cv = pytest.importorskip("keras_cv")
    layer = keras_cv.layers.RandomFlip("horizontal", rate=0.0, bounding_box_format="xyxy")

    def ragged(batch):
        lengths = tf.reduce_sum(tf.cast(batch["bounding_boxes"]["classes"] >= 0, "int32"), 1)
        boxes = {
            key: tf.RaggedTensor.from_tensor(tf.cast(value, "float32"), lengths)
            for key, value in batch["bounding_boxes"].items()
        }
        return layer({"images": batch["images"], "bounding_boxes": boxes})

    return tf_dataset(batches).map(ragged)


SOURCES = (tf_dataset, ragged_dataset, Batches, generator, data_loader)
OTHER_SOURCES = (
    batches_of_lists, any_iterator, detection_loader, torchvision_loader, tfds_dataset,
    keras_cv_dataset,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    """A detector that does not change while it trains."""
    model = small_model()
    model.compile(keras.optimizers.SGD(0.0))
    return model


@pytest.fixture(scope="module")
def expected(model):
    return model.evaluate(IMAGES, BOXES, verbose=0, return_dict=True)


@pytest.mark.parametrize("source", (*SOURCES, *OTHER_SOURCES))
def test_every_source_has_the_losses_of_its_arrays(model, expected, source):
    found = model.fit(source([BATCH, BATCH]), verbose=0).history
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("source", SOURCES)
def test_a_later_batch_of_unknown_classes_is_refused(model, source):
    batches = [BATCH, BATCH, {"images": IMAGES, "bounding_boxes": UNKNOWN_CLASS}]
    with pytest.raises(ValueError, match=r"Class ids must be 0\.\.2"):
        model.fit(source(batches), verbose=0)


@pytest.mark.parametrize(
    "data, message",
    [
        (None, "There is no data"),
        ([BATCH, BATCH], "pass a generator"),
        ({**BATCH, "images": [IMAGES[0], IMAGES[1, :64]]}, 'one size.*"image_sizes"'),
        ({**BATCH, "images": np.moveaxis(IMAGES, -1, 1)}, r"permute\(0, 2, 3, 1\)"),
        ({**BATCH, "bounding_boxes": {**BOXES, "classes": np.full((2, 3), "cat")}}, "the index of"),
        (tf.data.Dataset.from_tensor_slices(BATCH), r"dataset\.batch\(8\)"),
        (
            tf.data.Dataset.from_tensors({"image": IMAGES[0], "objects": {"bbox": 1, "label": 1}}),
            "load_tfds",
        ),
        (
            tf.data.Dataset.from_tensors(
                {**BATCH, "images": tf.RaggedTensor.from_tensor(IMAGES, [90, 96])}
            ),
            "ragged: they have several sizes",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_says_what_to_do(model, data, message):
    with pytest.raises(ValueError, match=message):
        model.fit(data, verbose=0)


def test_validation_and_evaluation_refuse_what_training_does(model):
    relative = {**BOXES, "boxes": BOXES["boxes"] / 1000}
    with pytest.raises(ValueError, match="look relative"):
        model.evaluate(IMAGES, relative, verbose=0)
    with pytest.raises(ValueError, match=r"Class ids must be 0\.\.2"):
        model.fit(IMAGES, BOXES, validation_data=(IMAGES, UNKNOWN_CLASS), verbose=0)
    with pytest.raises(ValueError, match=r"Class ids must be 0\.\.2"):
        model.train_on_batch(IMAGES, UNKNOWN_CLASS)


def test_an_error_of_the_data_leaves_the_weights(model, expected):
    """On JAX, Keras has taken them out of the model by then."""
    with pytest.raises(ValueError, match="Class ids"):
        model.fit(tf_dataset([{"images": IMAGES, "bounding_boxes": UNKNOWN_CLASS}]), verbose=0)
    found = model.evaluate(IMAGES, BOXES, verbose=0, return_dict=True)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)


def test_scaled_pixels_are_told_wherever_images_go_in(model):
    scaled = IMAGES / 255
    for call in (
        lambda: model.fit(scaled, BOXES, verbose=0),
        lambda: model.evaluate(tf_dataset([{**BATCH, "images": scaled}]), verbose=0),
        lambda: model.predict(scaled, verbose=0),
        lambda: model.predict(tf.data.Dataset.from_tensors(scaled), verbose=0),
        lambda: model.predict_on_batch(scaled),
    ):
        with pytest.warns(UserWarning, match=r"RGB in 0\.\.255"):
            call()
    with pytest.raises(ValueError, match=r"RGB in 0\.\.255"):  # it would be rounded to black
        model.detect([scaled[0]])
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.full_like(IMAGES, np.nan), verbose=0)


@pytest.mark.parametrize(
    "image, is_accepted",
    [
        (np.zeros((8, 8, 3), "float32"), True),  # black
        (np.eye(8, dtype="float32")[..., None] * np.ones(3, "float32"), True),  # all but black
        (np.linspace(0, 1, 192, dtype="float32").reshape(8, 8, 3), False),
        (np.linspace(-1, 1, 192, dtype="float32").reshape(8, 8, 3), False),
        (np.linspace(-2.1, 2.6, 192, dtype="float32").reshape(8, 8, 3), False),
        (np.linspace(-8, 262, 192, dtype="float32").reshape(8, 8, 3), True),  # cubic resizing
        (np.linspace(0, 65535, 192, dtype="float32").reshape(8, 8, 3), False),
        (np.full((8, 8, 3), np.nan, "float32"), False),
    ],
)
def test_pixels_are_those_of_0_to_255(image, is_accepted):
    """Also of one image among others, whose range is right."""
    batch = np.stack([np.full((8, 8, 3), 128, "float32"), image])
    assert (pixel_problem(*pixel_statistics(batch)) is None) == is_accepted
    if is_accepted:
        assert read_image(image).dtype == np.uint8
    else:
        with pytest.raises(ValueError, match=r"0\.\.255|finite"):
            read_image(image)


def test_a_batch_without_objects_has_a_finite_loss_and_is_told(model):
    """Padded to its longest list of objects, which has none."""
    nothing = {"boxes": np.zeros((2, 0, 4), "float32"), "classes": np.zeros((2, 0), "int32")}
    with pytest.warns(UserWarning, match="None of 1 batches had an object"):
        history = model.fit(IMAGES, nothing, verbose=0).history
    assert history["loss"][0] > 0 and history["box_loss"][0] == 0


def test_objects_that_are_all_ignored_are_told_as_none():
    for ignored, count in ((np.ones_like(BOXES["classes"]), 1), (np.eye(2, 3), 0)):
        feeding = Feeding(DataContract(3, "xyxy"))
        feeding.checked(IMAGES, {**BOXES, "ignored": ignored})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            feeding.tell()
        assert sum("had an object" in str(w.message) for w in caught) == count


def test_fit_draws_each_epoch_once(model):
    drawn = []

    def epoch():
        drawn.append([])
        for _ in range(2):
            drawn[-1].append(len(drawn))
            yield IMAGES, BOXES

    kinds = keras.tree.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), (IMAGES, BOXES)
    )
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=kinds)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(2))
    model.fit(dataset, epochs=2, verbose=0)
    assert drawn == [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    "source, size",
    [
        (lambda: (IMAGES, BOXES), (2, 1)),  # fewer images than Keras's batch size of 32
        (lambda: (tf_dataset([BATCH, BATCH, BATCH]), None), (2, 3)),
        (lambda: (tf.data.Dataset.range(5).map(lambda _: IMAGES[0]).batch(4), None), (4, 2)),
        (lambda: (Batches([BATCH, BATCH]), None), (2, 2)),
        (lambda: (data_loader([BATCH, BATCH]), None), (2, 2)),
        (lambda: (generator([BATCH]), None), (None, None)),
    ],
)
def test_how_much_a_source_trains_on(source, size):
    assert training_size(*source(), {"batch_size": None}) == size


def test_what_a_dataset_says_of_itself_is_compared(model):
    dataset = tf_dataset([BATCH])
    dataset.bounding_box_format = "xywh"
    with pytest.raises(ValueError, match=r"'xywh'.*bounding_box_format='xyxy'"):
        model.fit(dataset, verbose=0)
    with pytest.raises(ValueError, match=r"'xywh'.*bounding_box_format='xyxy'"):
        model.fit(tf_dataset([BATCH]), validation_data=dataset, verbose=0)
    contract = DataContract(3, "xyxy", ["a", "b", "c"], padding_color=(124, 116, 104))
    del dataset.bounding_box_format
    dataset.padding_color = (0, 0, 0)
    with pytest.warns(UserWarning, match="padding_color=model.padding_color"):
        contract.check_dataset(dataset)
    with pytest.raises(ValueError, match="different order"):
        contract.check_class_names(["b", "a", "c"])
    with pytest.raises(ValueError, match="has 2"):
        contract.check_class_names(["a", "b"])
    with pytest.warns(UserWarning, match="compared by position"):
        contract.check_class_names(["a", "b", "d"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classes": np.full((2, 3), -2)}, "Class ids must be"),
        ({"classes": np.full((2, 3), 0.5)}, "Class ids must be"),
        ({"classes": np.full((2, 3), np.nan)}, "Class ids must be"),
        ({"boxes": np.full((2, 3, 4), np.inf)}, "infinite"),
        ({"boxes": np.full((2, 2, 4), 9.0)}, "same B and N"),
        ({"ignored": np.zeros((2, 2))}, '"ignored" must have the shape'),
        ({"image_sizes": np.array([[96, 128], [96, 129]])}, "must lie within the batch"),
        ({"image_sizes": np.array([[96, 128]])}, r"must be \(B, 2\)"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DataContract(3, "xyxy").check_targets({**BOXES, **change}, IMAGES.shape[1:3])


@pytest.mark.parametrize("box_format", ["xywh", "center_xywh", "rel_yxyx", "center_yxhw"])
def test_boxes_without_area_are_found_in_every_format(box_format):
    boxes = np.array([[[0.2, 0.2, 0.6, 0.6], [0.5, 0.5, 0.1, 0.9]]]) * (
        1 if box_format.startswith("rel") else 100
    )
    targets = {"boxes": boxes, "classes": np.zeros((1, 2))}
    contract = DataContract(1, box_format)
    if "wh" in box_format or "hw" in box_format:
        contract.check_targets(targets, (100, 100))
        targets["boxes"][0, 1, 2] = 0
    with pytest.raises(ValueError, match="1 of 2 boxes have no area"):
        contract.check_targets(targets, (100, 100))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow")
def test_boxes_that_only_the_graph_sees_are_left_out_and_counted():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = small_model()
        model.compile(keras.optimizers.SGD(0.0))
    boxes = BOXES["boxes"].copy()
    boxes[0, 0, 1] = np.nan
    batches = [{"images": IMAGES, "bounding_boxes": {**BOXES, "boxes": boxes}}]
    dataset = strategy.experimental_distribute_dataset(tf_dataset(batches))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(dataset, epochs=2, verbose=0).history
    said = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert [text[:21] for text in said] == ["1 boxes were left out"] * 2
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(ValueError, match="1 boxes were left out"):
        model.fit(dataset, verbose=0, invalid_boxes="raise")
