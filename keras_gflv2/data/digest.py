"""One short text for a list of records: is it the data that it was?"""

import hashlib

import numpy as np


def records_digest(records):
    """Hash of the names, sizes and objects of records, in their order; not of the pixels.

    Where the files are does not count: a dataset may be moved.
    """
    found = hashlib.sha256()
    for record in records:
        found.update(f"{record.name}\0{record.height}\0{record.width}\0".encode())
        for values, dtype in (
            (record.boxes, "<f4"), (record.classes, "<i4"), (record.ignored, "<i4"),
        ):  # fmt: skip
            values = np.ascontiguousarray(values, dtype)
            found.update(f"{values.shape}\0".encode())
            found.update(values.tobytes())
    return found.hexdigest()[:16]
