"""Localization distillation: what the loss is, and what a teacher does to a training."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from cli_commands import DATA, TINY, fails
from common import random_batch, small_detector, small_model, tiny_backbone, to_numpy
from keras import ops
from losses.gradients import gradient

from keras_gflv2 import cli
from keras_gflv2.losses import DistillationTerm, LocalizationDistillationLoss
from keras_gflv2.targets import Targets
from keras_gflv2.training import distill
from keras_gflv2.training.identity import check_identity, identity

LOSS = "localization_distillation_loss"


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# === The loss ===


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_the_loss_is_the_divergence_of_known_distributions(temperature):
    """Logits that are T log(p) have the distribution p at the temperature T."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.25, 0.25, 0.5])
    teacher, student = (np.float32(temperature * np.log(x)) for x in (p, q))
    expected = temperature**2 * np.sum(p * np.log(p / q))  # not symmetric
    loss = LocalizationDistillationLoss(temperature)
    assert float(loss(teacher[None], student[None])) == pytest.approx(expected, rel=1e-5)
    assert float(loss(student[None], student[None])) == 0.0


def test_the_gradient_leads_from_the_student_to_the_teacher():
    """It is T (q - p): where the teacher sees more than the student, the logit must grow."""
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(0, 3, (2, 5, 17)).astype("float32")
    loss = LocalizationDistillationLoss(10.0, reduction="sum")
    slope = gradient(lambda x: loss(teacher, x), student)
    expected = 10.0 * (softmax(student / 10) - softmax(teacher / 10))
    np.testing.assert_allclose(slope, expected, atol=1e-5)
    offset = ops.convert_to_tensor(student - teacher)
    both = gradient(lambda x: loss(x, x + offset), teacher)  # by the teacher there is none
    alone = gradient(lambda x: loss(teacher, x + offset), teacher)
    np.testing.assert_allclose(both, alone, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="temperature"):
        LocalizationDistillationLoss(temperature)


def test_a_term_is_its_configuration():
    term = DistillationTerm(LocalizationDistillationLoss(3.0), weight=2.0, weighted_by="iou")
    config = keras.saving.serialize_keras_object(term)
    again = keras.saving.deserialize_keras_object(config)
    assert (again.loss.temperature, again.weight, again.weighted_by) == (3.0, 2.0, "iou")


# === A training ===


@pytest.fixture(scope="module")
def teacher():
    """With running statistics, which a forward pass in training mode would change."""
    keras.utils.set_random_seed(1)
    images = keras.Input((None, None, 3))
    normalized = keras.layers.BatchNormalization(momentum=0.5)(images)
    return small_model(
        seed=1, num_classes=2, backbone=keras.Model(images, tiny_backbone()(normalized))
    )


def student_of(teacher, compiled=True, **options):
    student = small_model()
    if compiled:
        student.compile("sgd", run_eagerly=keras.backend.backend() == "tensorflow")
    distill(student, teacher, **options)
    return student


def test_a_training_step_adds_the_weighted_divergence_of_the_positives(teacher):
    """Weighted by the score and normalized by its sum, like the distribution focal loss."""
    batch = random_batch()
    student = student_of(teacher, temperature=2.0, weight=3.0)
    outputs = to_numpy(student(batch["images"]))
    positive = positives_of(student, batch)
    divergence = 4.0 * np.sum(
        (p := softmax(to_numpy(teacher(batch["images"]))["box_distributions"] / 2))
        * np.log(p / softmax(outputs["box_distributions"] / 2)),
        axis=-1,
    ).mean(-1)
    score = np.where(positive, outputs["scores"].max(-1), 0)
    expected = 3.0 * (divergence * score).sum() / score.sum()
    before = [to_numpy(w).copy() for w in teacher.weights]

    logs = student.train_on_batch(batch["images"], batch["bounding_boxes"], return_dict=True)
    assert logs[LOSS] == pytest.approx(expected, rel=1e-3)
    terms = [logs[f"{name}_loss"] for name in student.criterion.names]
    assert logs["loss"] == pytest.approx(sum(terms) + expected, rel=1e-4)
    for was, now in zip(before, teacher.weights):
        np.testing.assert_array_equal(to_numpy(now), was)
    plain = small_model()
    assert len(student.weights) == len(student.variables) == len(plain.weights)
    assert len(student.non_trainable_variables) == len(plain.non_trainable_variables)


def positives_of(model, batch):
    """(B, A) bool"""
    truth = {k: ops.convert_to_tensor(v) for k, v in batch["bounding_boxes"].items()}
    targets = Targets.from_batch(truth, "xyxy", batch["images"], 3)
    return to_numpy(model.assigner(targets, model.grid(*batch["images"].shape[1:3])).positive)


def test_the_student_comes_nearer_to_its_teacher_in_a_graph(teacher):
    batch = random_batch()
    student = small_model()
    student.compile("adam")
    distill(student, teacher, weight=100.0)
    logs = student.fit(*batch.values(), epochs=8, batch_size=2, verbose=0).history
    assert logs[LOSS][-1] < 0.5 * logs[LOSS][0]
    later = student.evaluate(*batch.values(), batch_size=2, verbose=0, return_dict=True)
    assert 0 < later[LOSS] < logs[LOSS][0]


def test_a_teacher_of_equal_weights_has_nothing_to_say():
    twin = small_model()
    student = student_of(twin)
    batch = random_batch()
    logs = student.test_on_batch(*batch.values(), return_dict=True)
    assert logs[LOSS] == pytest.approx(0.0, abs=1e-5)
    assert logs["loss"] > 0.1


def test_files_of_a_student_have_no_teacher(teacher, tmp_path):
    student, plain = student_of(teacher), small_model()
    student.save(tmp_path / "student.keras")
    with zipfile.ZipFile(tmp_path / "student.keras") as archive:
        config = json.loads(archive.read("config.json"))
    assert "teacher" not in str(config).lower() and "istill" not in str(config)
    again = keras.saving.load_model(tmp_path / "student.keras")
    assert again.teacher is None and again.criterion.names == plain.criterion.names
    for one, other in zip(student.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    plain.compile("sgd")
    for name, model in (("student", student), ("plain", plain)):
        model.save_weights(tmp_path / f"{name}.weights.h5")
    sizes = [numbers_in(tmp_path / f"{name}.weights.h5") for name in ("student", "plain")]
    assert sizes[0] == sizes[1] >= plain.count_params()


def numbers_in(file):
    count = []
    with h5py.File(file) as content:
        content.visititems(lambda _, item: count.append(getattr(item, "size", 0)))
    return sum(count)


def test_compile_ends_it(teacher):
    student = student_of(teacher)
    with pytest.raises(ValueError, match="Compile it again"):
        distill(student, teacher)
    assert LOSS in student.metrics_names
    student.compile("sgd")
    assert LOSS not in student.metrics_names
    assert student.teacher is None and student._trained_criterion.names == student.criterion.names


# === What cannot be distilled ===


def test_a_teacher_must_speak_of_the_same_bins_and_places(teacher):
    with pytest.raises(ValueError, match="Compile the student first"):
        student_of(teacher, compiled=False)
    with pytest.raises(ValueError, match=r"representation.*reg_max is 16 of the student, 8 of the"):
        student_of(small_model(reg_max=8))
    with pytest.raises(ValueError, match=r"grid.*offset is 0.0 of the student, 0.5 of the teacher"):
        student_of(small_detector("guided FCOS"))
    with pytest.raises(ValueError, match="kind is GeneralDistribution of the student"):
        student_of(small_detector("ATSS"))
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        student_of(teacher, temperature=0.0)
    student = small_detector("ATSS")
    student.compile("sgd")
    with pytest.raises(ValueError, match="no distributions"):
        distill(student, teacher)
    student = small_model()
    student.compile("sgd")
    with pytest.raises(ValueError, match="share weights"):
        distill(student, student)
    assert student.teacher is None


@pytest.mark.parametrize("change", ["temperature", "weight", "teacher", "none"])
def test_a_training_goes_on_with_its_own_teacher_only(teacher, change):
    def of(teacher, **options):
        return identity(student_of(teacher, **options), [])

    saved = json.loads(json.dumps(of(teacher)))
    check_identity(saved, of(teacher), "run")
    if change == "none":
        student = small_model()
        student.compile("sgd")
        now = identity(student, [])
    elif change == "teacher":
        now = of(small_model(seed=2))
    else:
        now = of(teacher, **{change: 7.0})
    with pytest.raises(ValueError, match="--teacher: the teacher"):
        check_identity(saved, now, "run", command_line=True)
    # Version 0.2 wrote nothing about teachers.
    check_identity({**saved, "teacher": None}, now, "run")


# === The command ===


@pytest.mark.usefixtures("without_graphs")
def test_the_command_distills(teacher, tmp_path, capsys):
    teacher.save(tmp_path / "teacher.keras")
    options = ["--teacher", tmp_path / "teacher.keras", "--temperature", 5]
    run = ["train", *DATA[:2], *TINY, *options, "--epochs", 1, "--output", tmp_path / "run"]
    assert cli.main([*map(str, run)]) == 0
    head, row = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert float(dict(zip(head.split(","), row.split(",")))[LOSS]) > 0
    again = ["train", "--resume", "--output", tmp_path / "run"]
    assert "--temperature was 5.0" in fails(capsys, *again, "--temperature", 6)
    # It may be elsewhere, but must be the same one.
    small_model(seed=3).save(tmp_path / "other.keras")
    said = fails(capsys, *again, "--epochs", 2, "--teacher", tmp_path / "other.keras")
    assert "--teacher: the teacher" in said


def test_mistakes_of_the_command(tmp_path, capsys):
    run = ["train", *DATA, *TINY, "--output", tmp_path / "run"]
    assert "name a --teacher" in fails(capsys, *run, "--temperature", 5)
    assert "name a --teacher" in fails(capsys, *run, "--distillation-weight", 5)
    for wrong in ("0", "-1", "nan", "inf", "warm"):
        said = fails(capsys, *run, "--teacher", "nano_bccd", "--temperature", wrong)
        assert "--temperature: must be a number above 0" in said
    small_model(reg_max=8).save(tmp_path / "teacher.keras")
    said = fails(capsys, *run, "--teacher", tmp_path / "teacher.keras")
    assert "reg_max is 16 of the student, 8 of the teacher" in said
