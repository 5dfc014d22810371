"""Which column of a table of boxes holds what, by its header or by its form."""

import dataclasses
import re

# Spellings without case and without anything but letters and digits.
IMAGE = (
    "filename", "imagefilename", "file", "image", "imagename", "imagepath", "path", "filepath",
    "img", "imgname", "imgpath", "imagefile", "imageid", "imgid", "uri", "imageuri",
)  # fmt: skip
CLASS = (
    "class", "label", "classname", "labelname", "name", "category", "categoryname", "object",
    "classlabel", "labels", "classes", "classid", "categoryid", "labelid", "displayname",
)  # fmt: skip
SIDES = {
    "left": ("xmin", "x1", "left", "minx", "xmn", "xstart", "xminimum", "x0"),
    "top": ("ymin", "y1", "top", "miny", "ymn", "ystart", "yminimum", "y0"),
    "right": ("xmax", "x2", "right", "maxx", "xmx", "xend", "xmaximum"),
    "bottom": ("ymax", "y2", "bottom", "maxy", "ymx", "yend", "ymaximum"),
}
PREFIXES = ("", "bbox", "box", "bndbox", "boundingbox")
EXTENT = {"x": ("x", "left"), "y": ("y", "top"), "w": ("w", "width"), "h": ("h", "height")}
WHOLE_BOX = ("bbox", "box", "bndbox", "boundingbox")
SPLIT = ("split", "set", "subset", "mluse", "partition", "dataset")
IGNORED = ("iscrowd", "isgroupof", "difficult", "isdifficult", "ignore", "ignored", "crowd")
IMAGE_SIZE = {
    "height": ("height", "imageheight", "imgheight", "imgh"),
    "width": ("width", "imagewidth", "imgwidth", "imgw"),
}
# AutoML and Vertex AI have no header: [use,] path, label, x1, y1, x2, y1, x2, y2, x1, y2.
AUTOML_USES = ("train", "training", "validation", "validate", "test", "unassigned")


@dataclasses.dataclass
class Columns:
    """Indices of the columns of a table.

    Attributes:
        image, label: of the file name and of the class.
        box: four indices, or one of a column such as "[10, 20, 30, 40]".
        is_extent: whether the box is x, y, width, height, not two corners.
        has_header: whether the first row is one.
        fractions: whether coordinates are fractions for certain; None if the values decide.
        split, ignored, height, width: indices, or None where there is no such column.
    """

    image: int
    label: int
    box: tuple
    is_extent: bool = False
    has_header: bool = True
    fractions: bool | None = None
    split: int | None = None
    ignored: int | None = None
    height: int | None = None
    width: int | None = None


def find_columns(rows):
    """The `Columns` of a table, None if it is not one of boxes.

    Args:
        rows: list of lists of str, without empty rows.
    """
    first = rows[0]
    return _from_header(first) or _automl(first) or _keras_retinanet(rows)


def _from_header(row):
    names = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in row]

    def find(spellings, prefixes=("",)):
        for spelling in spellings:
            for prefix in prefixes:
                if prefix + spelling in names:
                    return names.index(prefix + spelling)
        return None

    image, label = find(IMAGE), find(CLASS)
    if image is None or label is None:
        return None
    columns = Columns(image, label, (), split=find(SPLIT), ignored=find(IGNORED))
    corners = tuple(find(spellings, PREFIXES) for spellings in SIDES.values())
    extents = tuple(find(spellings, PREFIXES[::-1]) for spellings in EXTENT.values())
    whole = find(WHOLE_BOX)
    if None not in corners:
        columns.box = corners
    elif None not in extents:
        columns.box, columns.is_extent = extents, True
    elif whole is not None:
        columns.box, columns.is_extent = (whole,), True
    else:
        return None
    columns.height, columns.width = find(IMAGE_SIZE["height"]), find(IMAGE_SIZE["width"])
    if {columns.height, columns.width} & set(columns.box):
        columns.height = columns.width = None
    return columns


def _automl(row):
    for has_use in (True, False):
        start = int(has_use)
        if len(row) != 10 + start or (has_use and row[0].strip().lower() not in AUTOML_USES):
            continue
        corners = [cell.strip() for cell in row[start + 2 :]]
        filled = [corners[index] for index in (0, 1, 4, 5)]
        if all(_is_number(cell) for cell in filled) or not any(corners):
            box = tuple(start + 2 + index for index in (0, 1, 4, 5))
            split = 0 if has_use else None
            return Columns(start, start + 1, box, has_header=False, fractions=True, split=split)
    return None


def _keras_retinanet(rows):
    """Rows of path, x1, y1, x2, y2, class; the last five are empty for an image without objects."""
    for row in rows[:20]:
        cells = [cell.strip() for cell in row]
        if len(cells) != 6 or not cells[0]:
            return None
        if any(cells[1:]) and not all(_is_number(cell) for cell in cells[1:5]):
            return None
    return Columns(0, 5, (1, 2, 3, 4), has_header=False)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
