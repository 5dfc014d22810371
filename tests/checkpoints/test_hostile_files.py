"""Weight files that want more than they are: memory, time, nesting, or two meanings."""

import io
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest

from keras_gflv2.checkpoints import CheckpointError, read_checkpoint

PROTOCOL = b"\x80\x02"
LEGACY_HEAD = b"".join(
    pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)
DEEP = b")" + b"\x85" * 200_000
MEGABYTE = 2**20
ALLOWED = 200 * MEGABYTE  # The first reading of a process loads modules, too.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return b"J" + struct.pack("<i", value)


def name(module, value):
    return f"c{module}\n{value}\n".encode()


def laughs():
    """A tuple of ten tuples of ten tuples ...: ten levels in some 300 bytes."""
    levels = b"".join(b"q%c(" % k + b"h%c" % k * 10 + b"t" for k in range(9))
    return b"(" + text("a" * 10) + levels + b"q\xc81h\xc8"


def tensor(key, shape=b"(K\x04K\x04t", strides=b"(K\x04K\x01t", count=16):
    storage = b"(" + text("storage") + name("torch", "FloatStorage") + key + text("cpu")
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + (b"(" + storage + integer(count) + b"tQ" + integer(0) + shape + strides)
        + b"\x89}tR"
    )


def weights(value, key=None):
    return PROTOCOL + b"}(" + (key or text("a")) + value + b"u."


def zipped(data, storage=bytes(64), **more):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/data/0", storage)
        for part, content in more.items():
            archive.writestr(f"a/{part}", content)
    return file.getvalue()


def npz(compression=zipfile.ZIP_STORED, **parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for part, content in parts.items():
            archive.writestr(f"{part}.npy", content)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def npy_header(shape, descr="<f4"):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def many_views(shape, strides, count=600):
    """Names for as many views of one storage of a million numbers."""
    items = b"".join(text(f"w{i}") + tensor(text("0"), shape, strides, 10**6) for i in range(count))
    return zipped(PROTOCOL + b"}(" + items + b"u.", bytes(4 * 10**6))


def numpy_array(shape, dtype=b"", data=b"C\x04\x00\x00\x80\x3f"):
    """The pickle of a float32 array, its type's state being `dtype`."""
    return (
        name("numpy.core.multiarray", "_reconstruct")
        + (b"(" + name("numpy", "ndarray") + b"K\x00\x85C\x01btR(K\x01" + shape)
        + (name("numpy", "dtype") + b"(" + text("f4") + b"K\x00K\x01tR" + dtype)
        + (b"\x89" + data + b"tb")
    )


HUGE = b"\x8b" + struct.pack("<i", MEGABYTE) + b"\x7f" * MEGABYTE  # a number of a megabyte
THOUSAND = b"(" + b"K\x01" * 1000 + b"t"
FROM_BUFFER = name("numpy.core.numeric", "_frombuffer") + b"("
U1 = name("numpy", "dtype") + b"(" + text("u1") + b"K\x00K\x01tR"
ORDERED = name("collections", "OrderedDict")
LONG_TEXT = text("x" * MEGABYTE)

HOSTILE = {
    "deep key": weights(b"K\x01", DEEP),
    "deep items": PROTOCOL + ORDERED + b"](" + b"(" + DEEP + b"K\x01te\x85R.",
    "deep value": weights(DEEP),
    "deep storage list": LEGACY_HEAD + pickle.dumps({}, 2) + PROTOCOL + b"]" + DEEP + b"a.",
    "laughing storage": zipped(weights(tensor(laughs()))),
    "laughing key": weights(b"K\x01", laughs()),
    "laughing name": b"\x80\x04}(" + text("a") + text("torch") + laughs() + b"\x93)Ru.",
    "laughing encoding": weights(name("_codecs", "encode") + b"(" + text("x") + laughs() + b"tR"),
    "laughing call": weights(laughs() + b")R"),
    "laughing reference": weights(laughs() + b"Q"),
    "laughing storage list": LEGACY_HEAD
    + weights(tensor(text("0")))
    + (PROTOCOL + b"]" + laughs() + b"a." + bytes(72)),
    "buffer of a number": weights(FROM_BUFFER + integer(2 * 10**9) + U1 + b"K\x01\x85" + b"tR"),
    "600 transposed views": many_views(b"(M\xe8\x03M\xe8\x03t", b"(K\x01M\xe8\x03t"),
    "600 equal views": many_views(b"(M\xe8\x03M\xe8\x03t", b"(M\xe8\x03K\x01t"),
    "expanded": zipped(weights(tensor(text("0"), b"(" + integer(10**9) + b"t", b"(K\x00t"))),
    "huge sizes": zipped(
        weights(tensor(text("0"), b"(" + HUGE * 3 + b"t", b"(" + HUGE * 3 + b"t"))
    ),
    "huge size of an array": weights(numpy_array(b"(" + HUGE + HUGE + b"t")),
    "a thousand dimensions": zipped(weights(tensor(text("0"), THOUSAND, THOUSAND))),
    "sizes in decimals": weights(b"I" + b"9" * MEGABYTE + b"\n"),
    "one instruction": PROTOCOL + b"]" * 20_000_000 + b".",
    "memory out of order": PROTOCOL + b"}p99999999999999999999999\n.",
    "text copied again and again": PROTOCOL
    + (b"](" + LONG_TEXT + b"q\x00" + text("latin1") + b"q\x01")
    + (name("_codecs", "encode") + b"q\x020" + b"h\x02(h\x00h\x01tR" * 2000 + b"e."),
    "lists copied again and again": PROTOCOL
    + (b"](](" + b"K\x01" * 100_000 + b"eq\x00" + name("torch", "Size") + b"q\x010")
    + (b"h\x01h\x00\x85R" * 5000 + b"e."),
    "long names of classes": PROTOCOL
    + (b"](" + name("torch." + "x" * MEGABYTE, "y") + b"q\x00" + b"h\x00)R" * 5000 + b"e."),
    "a thousandfold": npz(zipfile.ZIP_DEFLATED, a=npy(np.zeros(10**8, "u1"))),
    "a header's size": npz(a=npy_header((10**11,))),
    "objects": npz(a=npy(np.array(["a"]))),
    "object type": npz(a=npy_header((1,), "|O") + pickle.dumps(np.array([None], object))),
    "a nested header": npz(a=b"\x93NUMPY\x01\x00\xff\x1f" + b"(" * 8191),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_costs_no_more_than_its_size_allows(kind, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(HOSTILE[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < ALLOWED + 8 * path.stat().st_size
    assert len(str(error.value).replace(str(path), "")) < 600


ONE = numpy_array(
    b"K\x01\x85", b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)
UNCLEAR = {
    "occurs twice": PROTOCOL + b"}(" + text("a") + ONE + text("a") + ONE + b"u.",
    "with and without": PROTOCOL + b"}(" + text("module.a") + ONE + text("a") + ONE + b"u.",
    "named by a bytes": b"\x80\x03}(C\x01a" + ONE + b"u.",
    "named by a int": weights(ONE, b"K\x01"),
    "named by a tuple": weights(ONE, b"K\x01\x85"),
    "no plain name": weights(ONE, text("a\nb")),
    "of a weight is no plain": weights(ONE, text("a" * 1000)),
    "byte order 'x'": weights(ONE.replace(text("<"), text("x"))),
    "neither little nor big, but 'middle'": zipped(weights(tensor(text("0"))), byteorder=b"middle"),
    "neither little nor big": b"".join(
        pickle.dumps(value, 2)
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": "yes"}, {}, [])
    ),
    "disagree about the storage": zipped(
        PROTOCOL
        + (b"}(" + text("a") + tensor(text("0")))
        + (text("b") + tensor(text("0")).replace(b"Float", b"Int") + b"u.")
    ),
    "has 16 numbers, not 17": zipped(weights(tensor(text("0"), count=17))),
    "storage '1' is missing": zipped(weights(tensor(text("1")))),
}


@pytest.mark.parametrize("message", UNCLEAR)
def test_a_file_with_two_meanings_is_refused(message, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(UNCLEAR[message])
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_the_files_above_are_read_without_their_fault(tmp_path):
    """The parts that the faults were put into are those of real files."""
    path = tmp_path / "weights.pth"
    for data in (weights(ONE), zipped(weights(tensor(text("0")))), npz(a=npy(np.ones(2)))):
        path.write_bytes(data)
        assert list(read_checkpoint(path)) == ["a"]
    numbers = np.arange(16, dtype=">f4")
    path.write_bytes(zipped(weights(tensor(text("0"))), numbers.tobytes(), byteorder=b"big"))
    np.testing.assert_array_equal(read_checkpoint(path)["a"].ravel(), numbers)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_part_of_an_archive_twice(tmp_path):
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(2):
            archive.writestr("a.npy", npy(np.ones(2)))
    with pytest.raises(CheckpointError, match="twice"):
        read_checkpoint(path)


def test_parts_of_an_archive_that_overlap(tmp_path):
    """One part of a megabyte under a hundred names."""
    path = tmp_path / "weights.npz"
    data = npz(a=npy(np.zeros(10**6, "u1")))
    directory = data.rindex(b"PK\x01\x02")
    entry, end = data[directory : data.rindex(b"PK\x05\x06")], data[data.rindex(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"a.npy", b"%c.npy" % (65 + i)) for i in range(30))
    end = end[:8] + struct.pack("<HHI", 30, 30, len(entries)) + end[16:]
    path.write_bytes(data[:directory] + entries + end)
    with pytest.raises(CheckpointError, match="overlap"):
        read_checkpoint(path)
