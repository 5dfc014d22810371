"""Results on disk: added one by one, by several processes, put together from several machines."""

import multiprocessing

import pytest

from keras_gflv2.reproduction.results import RESULTS_FIELDS, CSVFile, ResultsFolder, merge
from keras_gflv2.reproduction.setups import choose

SETUP = choose("shapes", small=True)


def line(row, seed, ap):
    return {"row": row, "seed": seed, "AP": ap}


def keys(folder):
    return [(found["row"], found["seed"], found["AP"]) for found in folder.results.read()]


def test_lines_are_kept_as_they_came(tmp_path):
    folder = ResultsFolder(tmp_path)
    assert folder.results.read() == [] and not folder.results.has(row="gflv2", seed=0)
    assert folder.results.add([line("gflv2", 0, 0.7)]) == 1
    assert folder.results.add([line("gflv2", 1, 0.6), line("gflv2", 0, 0.1)]) == 1
    assert keys(folder) == [("gflv2", "0", "0.7"), ("gflv2", "1", "0.6")]
    assert folder.results.has(row="gflv2", seed=1) and not folder.results.has(row="gflv1", seed=1)
    assert tuple(folder.results.read()[0]) == RESULTS_FIELDS


def test_a_file_is_whole_at_every_moment(tmp_path):
    """A write that fails leaves the file as it was."""
    file = CSVFile(tmp_path / "results.csv", ("row", "AP"), ("row",))
    file.add([{"row": "gflv2", "AP": 0.7}])
    before = file.path.read_bytes()

    class Unwritable:
        def __str__(self):
            raise OSError("no space left")

    with pytest.raises(OSError):
        file.add([{"row": "gflv1", "AP": Unwritable()}])
    assert file.path.read_bytes() == before


def add_many(path, first):
    folder = ResultsFolder(path)
    for seed in range(first, first + 20):
        folder.results.add([line("gflv2", seed, seed / 100)])


def test_processes_lose_no_line_of_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_many, args=(tmp_path, 20 * i)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert {int(seed) for _, seed, _ in keys(ResultsFolder(tmp_path))} == set(range(60))


def test_a_row_is_trained_by_one(tmp_path):
    one, other = ResultsFolder(tmp_path), ResultsFolder(tmp_path)
    with one.claim("gflv2", 0) as is_ours:
        assert is_ours
        with other.claim("gflv2", 0) as is_theirs, other.claim("gflv2", 1) as is_free:
            assert not is_theirs and is_free
    with other.claim("gflv2", 0) as is_theirs:  # given back without a result
        assert is_theirs
        other.results.add([line("gflv2", 0, 0.7)])
    with one.claim("gflv2", 0) as is_ours:
        assert not is_ours


def test_one_folder_has_one_setup(tmp_path):
    folder = ResultsFolder(tmp_path)
    folder.use(SETUP)
    folder.use(choose("shapes", small=True))
    assert folder.setup.replace(epochs=3).epochs == 3
    assert ResultsFolder(tmp_path).setup.image_size == SETUP.image_size
    for changes in ({"epochs": 3}, {"data": "shapes:train:9"}):
        with pytest.raises(ValueError, match="another setup"):
            folder.use(SETUP.replace(**changes))


def test_data_may_be_elsewhere_on_another_machine(tmp_path):
    folder = ResultsFolder(tmp_path)
    folder.use(choose("coco:/data/COCO"))
    folder.use(choose("coco:/mnt/elsewhere"))
    assert folder.setup.data.startswith("coco:/data/COCO/annotations")
    with pytest.raises(ValueError, match="another setup"):
        folder.use(choose("voc:/data/VOC"))


def test_merge_puts_machines_together(tmp_path):
    for name, lines in (
        ("a", [line("gflv2", 0, 0.7), line("gflv1", 0, 0.6)]),
        ("b", [line("gflv2", 0, 0.5), line("gflv2", 1, 0.8)]),
    ):
        folder = ResultsFolder(tmp_path / name)
        folder.use(SETUP)
        folder.results.add(lines)
    ResultsFolder(tmp_path / "b").speed.add([{"row": "gflv2", "images_per_second": 20}])
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all") == 4
    merged = ResultsFolder(tmp_path / "all")
    assert keys(merged) == [("gflv2", "0", "0.7"), ("gflv1", "0", "0.6"), ("gflv2", "1", "0.8")]
    assert merged.speed.has(row="gflv2") and merged.setup.to_json() == SETUP.to_json()
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all") == 0


def test_merge_refuses_what_cannot_be_compared(tmp_path):
    ResultsFolder(tmp_path / "a").use(SETUP)
    ResultsFolder(tmp_path / "b").use(SETUP.replace(batch_size=2))
    with pytest.raises(ValueError, match="another setup"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"no setup\.json"):
        merge([tmp_path / "c"], tmp_path / "other")
