"""A picture of what a check found, with the boxes of the annotations drawn."""

import numpy as np
from PIL import Image, ImageDraw

from keras_gflv2.images import read_image
from keras_gflv2.visualization.drawing import draw_detections

CELL = 240  # pixels
CAPTION = 34
COLUMNS = 5
PER_FINDING = 5
PER_CLASS = 2
MOST_CLASSES = 20


def draw_contact_sheet(report):
    """Draws some images of each finding, then some of each class.

    Args:
        report: a `DataReport`.

    Returns:
        A PIL image, RGB.
    """
    rows = [
        (f"{finding.severity}: {finding.message}", finding.images[:PER_FINDING])
        for finding in report.findings
        if finding.images
    ]
    for split, part in report.parts.items():
        for label, name in enumerate(part.class_names[:MOST_CLASSES]):
            having = (i for i, r in enumerate(part.records) if (r.classes == label).any())
            images = [(split, i) for i, _ in zip(having, range(PER_CLASS))]
            if images:
                rows.append((f"{split + ': ' if split else ''}{name}", images))
    rows = list(_side_by_side(rows)) or [[("nothing to show", [])]]
    heights = CELL + 2 * CAPTION
    canvas = Image.new("RGB", (COLUMNS * CELL, len(rows) * heights), (255, 255, 255))
    for number, groups in enumerate(rows):
        column = 0
        for title, images in groups:
            _write(canvas, (column * CELL + 6, number * heights + 10), title, len(images))
            for place in images:
                _paste(canvas, (column * CELL, number * heights + CAPTION), place, report)
                column += 1
    return canvas


def _side_by_side(rows):
    """Puts short rows of one width into one line: lists of (title, images)."""
    line, used = [], 0
    for title, images in rows:
        if used and used + len(images) > COLUMNS:
            yield line
            line, used = [], 0
        line.append((title, images))
        used += len(images)
    if line:
        yield line


def _paste(canvas, corner, place, report):
    split, index = place
    part = report.parts[split]
    record = part.records[index]
    name = f"{split}/{record.name}" if split else record.name
    try:
        source = record.image() if callable(record.image) else record.image
        image = Image.fromarray(read_image(source, exif=record.exif, name=record.file))
    except (OSError, ValueError):
        _write(canvas, (corner[0] + 6, corner[1] + CELL // 2), f"cannot be read: {name}", 1)
        return
    scale = (CELL - 8) / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    drawn = draw_detections(
        image,
        {
            "boxes": record.boxes * np.float32(scale),
            "classes": record.classes,
            "ignored": record.ignored,
        },
        part.class_names,
        line_width=1,
        font_size=10,
    )
    canvas.paste(drawn, (corner[0] + 4, corner[1]))
    _write(canvas, (corner[0] + 6, corner[1] + drawn.height + 1), name[-38:], 1)


def _write(canvas, position, text, cells):
    draw = ImageDraw.Draw(canvas)
    draw.text(position, text[: 38 * max(cells, 1)], fill=(40, 40, 40), font_size=11)
