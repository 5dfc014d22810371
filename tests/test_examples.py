"""The examples: the extension that the documentation shows, and images to label."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from common import to_numpy

import keras_gflv2
from keras_gflv2.targets import Targets

EXAMPLE = Path(__file__).parents[1] / "examples" / "new_assigner.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("new_assigner", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # which registers the assigner
    return module


def test_the_new_assigner_is_one_short_file():
    assert len(EXAMPLE.read_text().splitlines()) <= 80


def test_the_new_assigner_names_the_best_locations_inside(example):
    """One object of 48 pixels around a location of the level with stride 8."""
    boxes = np.float32([[[44, 44, 92, 92], [0, 0, 0, 0]]])
    targets = Targets(boxes, np.int32([[1, -1]]))
    at = keras_gflv2.AnchorGrid(offset=0.5)(128, 128)
    assigned = to_numpy(example.CenterPriorAssigner(topk=9)(targets, at).box_index)[0]
    points, strides = (to_numpy(x)[assigned == 0] for x in (at.points, at.strides))
    nearest = [(x, y) for y in (60, 68, 76) for x in (60, 68, 76)]
    assert sorted(map(tuple, points)) == sorted(nearest)
    assert (strides == 8).all()
    assert set(assigned) == {-1, 0}


def test_the_new_assigner_trains_and_is_loaded_with_its_detector(example, tmp_path, capsys):
    file = tmp_path / "detector.keras"
    example.main(["--num-images", "8", "--epochs", "1", "--output", str(file)])
    assert float(capsys.readouterr().out.rpartition("AP ")[2]) >= 0
    model, again = (keras.saving.load_model(file) for _ in range(2))
    assert type(model.assigner) is example.CenterPriorAssigner
    assert model.assigner.get_config() == example.CenterPriorAssigner().get_config()
    images = np.random.default_rng(0).uniform(0, 255, (1, 128, 128, 3)).astype("float32")
    np.testing.assert_array_equal(*(to_numpy(m(images)["scores"]) for m in (model, again)))


@pytest.fixture(scope="module")
def choosing():
    path = EXAMPLE.with_name("choose_images_to_label.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gain_of_a_detection_is_information_in_bits(choosing):
    """A coin is one bit; each side that is as unsure as its label half a bit, if it is there."""
    boxes = np.float32([[0, 0, 40, 20], [0, 0, 40, 20], [0, 0, 40, 20]])
    noise = choosing.LABEL_NOISE * np.array([40, 20, 40, 20])
    spread = np.array([noise, 0 * noise, noise])
    gains = choosing.detection_gains([1.0, 0.5, 0.5], boxes, spread)
    np.testing.assert_allclose(gains, [2, 1, 2], atol=1e-6)


class Unsure:
    """Finds in each image, a number, as many boxes, all alike but for their certainty."""

    def detect(self, images, score_threshold):
        return [
            {
                "confidence": np.full(count, 0.9),
                "boxes": np.tile(np.float32([0, 0, 40, 40]), (count, 1)),
                "uncertainties": np.full((count, 4), float(10 - count)),
            }
            for count in images
        ]


def test_images_are_ranked_by_what_labels_cost(choosing):
    """Five sure objects tell more than one unsure one, but not each of them."""
    images = [1, 5, 0]
    per_image = choosing.gains_of(Unsure(), images)
    per_object = choosing.gains_of(Unsure(), images, "object")
    assert np.argsort(-per_image).tolist() == [1, 0, 2]
    assert np.argsort(-per_object).tolist() == [0, 1, 2]
    np.testing.assert_allclose(per_image[:2], per_object[:2] * [1, 5])
    assert per_image[2] == per_object[2] == 0


class OfClasses(Unsure):
    """Finds in each image, a list, objects of these classes."""

    def detect(self, images, score_threshold):
        found = super().detect([len(classes) for classes in images], score_threshold)
        return [{**f, "classes": np.int32(classes)} for f, classes in zip(found, images)]


def test_with_classes_alike_a_rare_one_is_worth_more(choosing):
    """All of the second class is in one image, the first is spread over two, evenly."""
    gains = choosing.gains_of(OfClasses(), [[0, 0], [1, 1], [0, 0], []], "class")
    np.testing.assert_allclose(gains, [0.25, 0.5, 0.25, 0])
    assert choosing.gains_of(OfClasses(), [[]], "class") == [0]


def test_images_to_label_are_written_with_their_rank(choosing, nano, tmp_path, capsys):
    from PIL import Image
    from serving.conftest import cells

    for seed in range(2):
        Image.fromarray(cells(seed, (240, 320))).save(tmp_path / f"{seed}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    output = tmp_path / "rank.csv"
    command = ["--model", "nano_bccd", "--images", str(tmp_path), "--output", str(output)]
    choosing.main(command)
    rows = [line.split(",") for line in output.read_text().splitlines()]
    assert rows[0] == ["rank", "gain", "image"]
    assert {Path(row[2]).name for row in rows[1:]} == {"0.png", "1.png"}
    gains = [float(row[1]) for row in rows[1:]]
    assert gains[0] > gains[1] > 0
    expected = choosing.gains_of(nano, [row[2] for row in rows[1:]])
    np.testing.assert_allclose(gains, expected, atol=1e-3)
    choosing.main([*command, "--count", "1"])
    assert len(output.read_text().splitlines()) == 2
    with pytest.raises(SystemExit):
        choosing.main(["--output", str(output)])
    assert "--model and --images" in capsys.readouterr().err


def test_a_simulation_is_summed_up_against_random_labels(choosing):
    rows = [
        {"strategy": strategy, "seed": str(seed), "AP": str(ap)}
        for strategy, scores in {
            "random": [0.40, 0.42, 0.41], "gain per image": [0.42, 0.45, 0.42],
        }.items()
        for seed, ap in enumerate(scores)
    ]  # fmt: skip
    line = choosing.summary(rows).splitlines()[-1]
    # Differences 0.02, 0.03, 0.01: t = 0.02 / (0.01 / sqrt(3)), two-sided with two degrees.
    assert line == "| gain per image | 3 | 0.4300 | 0.0173 | 0.0200 | 0.0100 | 0.07 |"
