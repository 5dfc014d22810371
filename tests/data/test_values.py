"""Numbers, flags and ids as exporters write them."""

import pytest

from keras_gflv2.data.values import (
    IdTable,
    batch_ids,
    id_order,
    read_flag,
    read_id,
    read_number,
    read_size,
)

NAN = float("nan")


@pytest.mark.parametrize(
    "value, expected", [(5, 5), (5.5, 5.5), ("5", 5), (" 5.5 ", 5.5), ("1e2", 100), ("-3", -3)]
)
def test_numbers(value, expected):
    assert read_number(value, "'area'", "a.json") == expected


@pytest.mark.parametrize(
    "value", [None, True, "", "abc", "1,5", "1_0", NAN, "inf", [5], {}, 10**400]
)
def test_what_is_no_number(value):
    with pytest.raises(ValueError, match=r"a\.json: annotation 7: 'area' must be .*number"):
        read_number(value, "'area'", "a.json: annotation 7")


@pytest.mark.parametrize(
    "flag, values",
    [
        (True, [1, 1.0, True, "1", "1.0", "true", "True", "TRUE", "yes", " 1 "]),
        (False, [0, 0.0, False, "0", "0.0", "false", "False", "no", "", None, "Unspecified"]),
    ],
)
def test_flags(flag, values):
    assert [read_flag(value, "'iscrowd'", "a.json") for value in values] == [flag] * len(values)


@pytest.mark.parametrize("value", [2, -1, 0.5, "2", "abc", NAN, "nan", [0], [], {}])
def test_what_is_no_flag(value):
    with pytest.raises(ValueError, match=r"a\.json: annotation 7: 'iscrowd' must be 0 or 1"):
        read_flag(value, "'iscrowd'", "a.json: annotation 7")


@pytest.mark.parametrize("value", [None, True, "", NAN, float("inf"), [1], {}])
def test_what_is_no_id(value):
    with pytest.raises(ValueError, match="'id' must be a number or a string"):
        read_id(value, "'id'", "a.json")


def test_sizes():
    assert read_size("48", 64.0, "a.json") == (48, 64)
    for unknown in (None, "", 0, "0", -1):
        assert read_size(48, unknown, "a.json") is None
    with pytest.raises(ValueError, match=r"a\.json: width must be a number"):
        read_size(48, "wide", "a.json")


def test_ids_are_found_whatever_their_type():
    table = IdTable([7, "8", 9.0, "cat", "010", 1.5], "image", "a.json")
    for value in (7, "7", 7.0, "7.0", " 7 "):
        assert table.find(value) == 0
    for value in (8, "8", 8.0):
        assert table.find(value) == 1
    assert [table.find(value) for value in ("9", "cat", 10, 1.5)] == [2, 3, 4, 5]
    assert [table.find(value) for value in (1, "dog", "1.5", 2.5)] == [None] * 4


def test_ids_that_cannot_be_told_apart():
    for ids in ([1, 1], ["a", "a"], [1, 1.0], [1, "1"], ["2", 2.0]):
        with pytest.raises(ValueError, match=r"a\.json: the image id"):
            IdTable(ids, "image", "a.json")
    names = IdTable(["007", "7"], "image", "a.json")  # Two file names of digits.
    assert names.find("007") == 0 and names.find("7") == 1
    with pytest.raises(ValueError, match=r"7 may stand for any of \['007', '7'\]"):
        names.find(7)


def test_order_of_ids():
    assert sorted(["b", "10", 9, 1.5, "a", "2"], key=id_order) == [1.5, "2", 9, "10", "a", "b"]


def test_batches_carry_ids_only_if_all_are_ints_of_64_bits():
    assert batch_ids([42, 2**62]) == [42, 2**62]
    for ids in (["a", "b"], [1.0, 2.0], [5, "6"], [5, 2**63]):
        assert batch_ids(ids) == [0, 1]
