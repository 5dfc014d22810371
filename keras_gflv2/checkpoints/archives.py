"""Zip archives of strangers: what is in them, before anything is unpacked; and numpy's .npz."""

import io
import zipfile

import numpy as np

from keras_gflv2.checkpoints.errors import CheckpointError, shorten
from keras_gflv2.checkpoints.pickle_values import ARRAY_KINDS

# How much larger than the file its compressed parts may be. Weights hardly compress at all.
MAX_RATIO = 20


def open_archive(file, size, compressed=()):
    """Opens a zip archive whose parts unfold to no more than the file can mean.

    Args:
        file: binary file.
        size: its bytes.
        compressed: endings of the names of parts that may be compressed.

    Raises:
        CheckpointError: parts are compressed, unfold too far, overlap or have the same name.
    """
    archive = zipfile.ZipFile(file)
    names, stored, unfolded = set(), 0, 0
    for entry in archive.infolist():
        if entry.filename in names:
            raise CheckpointError(f"its part {shorten(entry.filename)} is there twice")
        names.add(entry.filename)
        is_stored = entry.compress_type == zipfile.ZIP_STORED
        if not is_stored and not (
            entry.compress_type == zipfile.ZIP_DEFLATED and entry.filename.endswith(compressed)
        ):
            raise CheckpointError(f"its part {shorten(entry.filename)} is compressed")
        if is_stored and entry.file_size != entry.compress_size:
            raise CheckpointError(f"the sizes of its part {shorten(entry.filename)} disagree")
        stored += entry.compress_size
        unfolded += entry.file_size
    if stored > size:
        raise CheckpointError("its parts overlap")
    if unfolded > MAX_RATIO * size:
        raise CheckpointError(
            f"its parts unfold to {unfolded:,} bytes, more than {MAX_RATIO} times the file's "
            f"{size:,}"
        )
    return archive


def is_npz(archive):
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_npz(archive):
    """{name: array} of an archive of numpy.savez."""
    return {
        entry.filename.removesuffix(".npy"): _read_npy(archive.read(entry), entry.filename)
        for entry in archive.infolist()
    }


def _read_npy(data, name):
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.kind not in ARRAY_KINDS:
        raise CheckpointError(f"its part {shorten(name)} holds {dtype.name}, not numbers")
    # reshape checks the count: a header that claims more than there is allocates nothing.
    array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")
