"""The rows of the paper's tables: complete, with the paper's numbers, and each of them trains."""

import keras
import numpy as np
import pytest
from common import SMALL, random_batch, tiny_backbone, to_numpy

import keras_gflv2
from keras_gflv2 import layers
from keras_gflv2.representations import AnchorDeltas, Distances, GeneralDistribution
from keras_gflv2.reproduction.rows import ROWS
from keras_gflv2.reproduction.tables import TABLES, rows_of


def build(name):
    """The detector of a row, as small as those of other tests; RetinaNet and FoveaBox without
    normalization, as they were published."""
    norm = {} if name.startswith(("retinanet", "foveabox")) else {"head_norm_groups": 4}
    return ROWS[name].build(tiny_backbone(), num_classes=3, **SMALL, **norm)


def paper(number):
    return {line.row: line.paper["AP"] for line in TABLES[number].lines if "AP" in line.paper}


# === The paper's numbers: REFERENCE section 1, as (what decides the row, AP) ===


def test_table_1_has_the_statistics():
    found = {
        ROWS[line.row].arguments.get("quality_statistics", ("topk", "mean")): line.paper["AP"]
        for line in TABLES[1].lines
    }
    assert found == {
        ("topk",): 40.8,
        ("mean",): 40.2,
        ("var",): 40.3,
        ("topk", "mean"): 41.1,
        ("topk", "var"): 40.9,
        ("topk", "mean", "var"): 40.9,
    }


def test_table_2_has_k_and_p():
    found = {}
    for line in TABLES[2].lines:
        arguments = ROWS[line.row].arguments
        k = 0 if line.row == "gflv1" else arguments.get("quality_topk", 4)
        found[k, arguments.get("quality_channels", 64)] = line.paper["AP"]
    by_k = zip((0, 1, 2, 3, 4, 8, 16), (40.2, 40.2, 40.9, 40.9, 41.1, 41.0, 40.8))
    by_p = zip((8, 16, 32, 64, 128, 256), (40.9, 40.8, 40.9, 41.1, 40.9, 40.7))
    assert found == {**{(k, 64): ap for k, ap in by_k}, **{(4, p): ap for p, ap in by_p}}


def test_table_3_has_what_the_quality_is_read_from():
    samplers = ("Point", "Region", "Border", "BorderMiddle", "BorderExtreme", "Star", "Deformable")
    found = []
    for line in TABLES[3].lines[1:-1]:
        model = build(line.row)
        assert isinstance(model, keras_gflv2.ATSS)
        assert isinstance(model.representation, AnchorDeltas)
        found.append((type(model.quality.sampler).__name__, line.paper["AP"]))
    aps = (40.2, 40.5, 40.5, 40.6, 40.6, 40.7, 40.8)
    assert found == [(f"{name}Sampler", ap) for name, ap in zip(samplers, aps)]
    assert paper(3)["atss+joint"] == 39.9 and paper(3)["gflv2"] == 41.1
    speeds = {line.row: line.paper.get("images_per_second") for line in TABLES[3].lines}
    assert (speeds["atss+joint"], speeds["region"], speeds["gflv2"]) == (19.4, 14.0, 19.4)


def test_table_4_has_the_forms():
    composed = {
        build(line.row).quality.channels: line.paper["AP"] for line in TABLES[4].lines[1:-1]
    }
    assert composed == {16: 40.5, 32: 40.5, 64: 40.7, 128: 40.7, 256: 40.7}
    assert paper(4)["gflv1"] == 40.2 and paper(4)["gflv2"] == 41.1


def test_table_5_has_any_detector_and_its_guided_form():
    pairs = [(paper(5)[other], paper(5)[row]) for row, other in TABLES[5].orders]
    assert pairs == [(36.5, 38.6), (36.4, 38.5), (38.5, 40.6), (39.2, 41.1)]
    for row, other in TABLES[5].orders:
        guided, own = build(row), build(other)
        assert isinstance(guided.quality, layers.DistributionGuidedQualityPredictor)
        assert not isinstance(own.representation, GeneralDistribution)
        assert type(guided.assigner) is type(own.assigner)
        assert guided.grid.get_config() == own.grid.get_config()


def test_table_6_has_the_joint_representation_of_all():
    found = {line.row: line.paper["correlation"] for line in TABLES[6].lines}
    assert list(found.values()) == [0.624, 0.631, 0.634, 0.660]
    assert TABLES[6].metric == "correlation"
    for name, box in (("fcos+joint", Distances), ("atss+joint", AnchorDeltas)):
        model = build(name)
        assert isinstance(model.representation, box)
        assert model.criterion.names == ("classification", "box")
        assert model.criterion.terms[0].target == "iou"


def test_table_8_has_the_costs():
    for line in TABLES[8].lines:
        assert (line.paper["hours"], line.paper["images_per_second"]) == (8.2, 19.4)
    assert paper(8) == {"atss": 39.2, "gflv1": 40.2, "gflv2": 41.1}


def test_tables_have_all_rows_and_share_them():
    assert sorted(TABLES) == [1, 2, 3, 4, 5, 6, 8]
    assert set(rows_of(TABLES)) == set(ROWS)
    assert len(rows_of(TABLES)) == len(set(rows_of(TABLES)))
    # The default of GFLV2 is in all tables.
    assert all("gflv2" in table.rows for table in TABLES.values())


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_orders_are_those_of_the_paper(table):
    for row, other in table.orders:
        assert row in table.rows and other in table.rows
        assert table.in_paper(row, other) >= 0


# === Detectors ===


def test_guided_atss_is_gflv2():
    """Table 5's last row is the row "gflv2" of the others."""
    guided = keras_gflv2.ATSS(
        tiny_backbone(), 3, distribution_guided=True, head_norm_groups=4, **SMALL
    )
    gflv2 = build("gflv2")
    guided.set_weights(gflv2.get_weights())
    batch = random_batch()
    outputs = [to_numpy(model(batch["images"])["scores"]) for model in (guided, gflv2)]
    np.testing.assert_allclose(*outputs, rtol=1e-5)
    configs = [
        [keras.saving.serialize_keras_object(part) for part in (m.grid, m.assigner, m.criterion)]
        for m in (guided, gflv2)
    ]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains(name):
    """A step changes the class convolution, and the quality where it has weights."""
    keras.utils.set_random_seed(0)
    model = build(name)
    model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), run_eagerly=True)
    parts = [model.head.classification_conv]
    if getattr(model.quality, "trainable_variables", None):
        parts.append(model.quality)
    before = [[to_numpy(v.value).copy() for v in part.trainable_variables] for part in parts]
    batch = random_batch(size=(64, 64))
    logs = model.train_on_batch(batch["images"], batch["bounding_boxes"], return_dict=True)
    assert np.isfinite(logs["loss"])
    for part, old in zip(parts, before):
        new = [to_numpy(v.value) for v in part.trainable_variables]
        assert any((a != b).any() for a, b in zip(new, old, strict=True)), part.name
