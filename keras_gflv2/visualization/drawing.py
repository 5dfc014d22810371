"""Pictures of detections, drawn with PIL.

In: images and boxes in pixels of these images, as `model.detect` returns them. Out: PIL images
(`np.asarray(picture)` is the uint8 array, `picture.save(path)` the file).
"""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_gflv2.images import read_image

# Ten colors that stay apart on photographs; further classes get hues in between.
PALETTE = (
    (230, 60, 50),
    (40, 130, 240),
    (40, 180, 75),
    (250, 170, 20),
    (160, 70, 210),
    (20, 190, 190),
    (240, 90, 180),
    (150, 200, 40),
    (150, 95, 50),
    (90, 110, 140),
)
IGNORED_COLOUR = (160, 160, 160)
GOLDEN_RATIO = 0.618034
SHADE = 0.3  # opacity of the bands of uncertainties
MARGIN = 12  # pixels between the pictures of a gallery
BACKGROUND = (255, 255, 255)
TEXT = (40, 40, 40)


def class_colour(label: int) -> tuple[int, ...]:
    """RGB color (three ints) of a class index: the same in every picture."""
    if label < len(PALETTE):
        return PALETTE[label]
    hue = (label * GOLDEN_RATIO) % 1.0
    return tuple(int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.75, 0.9))


def draw_detections(
    image: Any,
    detections: Mapping[str, Any],
    class_names: Sequence[str] | None = None,
    *,
    score_threshold: float = 0.0,
    colours: Sequence[tuple[int, int, int]] | None = None,
    line_width: int | None = None,
    font_size: int | None = None,
    draw_uncertainties: bool = False,
    draw_intervals: bool = False,
) -> Image.Image:
    """Draws boxes with their class and confidence on an image.

    Args:
        image: path, PIL image or array (H, W, 3), RGB in 0..255.
        detections: dictionary of "boxes" (n, 4), xyxy in pixels of the image, "classes" (n,)
            (or "labels") and, optionally, "confidence" (n,) and "ignored" (n,). `model.detect`
            returns it for each image; ground truth looks the same, without "confidence". Padding is
            not drawn: class or confidence -1, or rows from "num_detections" on, as those of
            `model.predict` have.
        class_names: list of names by class index. Default: the "class_names" (n,) in
            `detections`, else the index.
        score_threshold: detections with less confidence are left out.
        colours: list of RGB triples by class index, to replace the default ones.
        line_width, font_size: in pixels. Default: after the size of the image.
        draw_uncertainties: whether each side has a band that reaches one standard deviation inside
            and outside of the box: the "uncertainties" (n, 4) in `detections`, of the left, top,
            right and bottom side.
        draw_intervals: whether each side has a band over its interval instead: the "intervals"
            (n, 4, 2) in `detections`, as `model.detect(coverage=0.9)` gives them.

    Returns:
        A new PIL image, RGB.

    Raises:
        ValueError: "boxes" or "classes" is missing, or they differ in length; or there are no
            uncertainties or intervals to draw.
    """
    if draw_intervals and "intervals" not in detections:
        raise ValueError(
            "There are no intervals to draw: `model.detect(coverage=0.9)` gives them, of detectors "
            "that keras-gflv2 calibrate has calibrated."
        )
    if draw_uncertainties and "uncertainties" not in detections:
        raise ValueError(
            "There are no uncertainties to draw: only detectors whose boxes are distributions know "
            "them (GFLV2, GFLV1 and those with `distribution_guided`), and servers with an export "
            "of this version."
        )
    picture = _to_picture(image)
    rows = _rows(detections, class_names, score_threshold)
    shortest = min(picture.size)
    line_width = line_width or max(1, round(shortest / 240))
    font = _font(font_size or max(10, round(shortest / 36)))
    # The surest last, on top. First all boxes, then all tags, so that no line crosses a text.
    rows = sorted(rows, key=lambda row: 0.0 if row["confidence"] is None else row["confidence"])
    for row in rows:
        row["colour"] = _colour_of(row, colours)
        if draw_intervals:
            _shade_sides(picture, row["colour"], row["intervals"])
        elif draw_uncertainties:
            ends = [row["box"] + sign * row["uncertainties"] for sign in (-1, 1)]
            _shade_sides(picture, row["colour"], np.stack(ends, axis=-1))
    draw = ImageDraw.Draw(picture)
    for row in rows:
        left, top, right, bottom = _corners(row["box"])
        draw.rectangle([left, top, right, bottom], outline=row["colour"], width=line_width)
    for row in rows:
        _draw_tag(draw, picture.size, row, font)
    return picture


def draw_gallery(
    images: Sequence[Any],
    detections: Sequence[Mapping[str, Any]],
    ground_truth: Sequence[Mapping[str, Any]] | None = None,
    class_names: Sequence[str] | None = None,
    *,
    score_threshold: float = 0.0,
    columns: int | None = None,
    cell_size: int = 360,
    draw_uncertainties: bool = False,
    draw_intervals: bool = False,
) -> Image.Image:
    """Draws many images in a grid: ground truth and detections side by side.

    Args:
        images: list of paths, PIL images or arrays (H, W, 3) RGB in 0..255.
        detections: list of a dictionary an image, as in `draw_detections`.
        ground_truth: list of the same kind, drawn left of the detections; None for detections
            alone.
        class_names: list of names by class index.
        score_threshold: detections with less confidence are left out; ground truth never is.
        columns: how many images (or pairs) side by side. Default: up to 2 pairs, or 4 images.
        cell_size: longest side in pixels to which every image is scaled, also enlarged.
        draw_uncertainties, draw_intervals: whether detections are drawn with theirs, see
            `draw_detections`.

    Returns:
        A PIL image, RGB.

    Raises:
        ValueError: the lists are empty or differ in length, or there are no uncertainties to draw.
    """
    lists = [detections] if ground_truth is None else [ground_truth, detections]
    if not len(images) or any(len(entries) != len(images) for entries in lists):
        raise ValueError(
            "`images`, `detections` and `ground_truth` must have the same length, at least 1. "
            f"Received: {len(images)} images and {[len(entries) for entries in lists]}."
        )
    titles = ["detections"] if ground_truth is None else ["ground truth", "detections"]
    columns = min(columns or 4 // len(lists), len(images))
    cells = []
    for image, *entries in zip(images, *lists):
        picture = _to_picture(image)
        scale = cell_size / max(picture.size)
        size = tuple(max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        cells.append(
            [
                draw_detections(
                    picture,
                    _scaled(entry, scale),
                    class_names,
                    score_threshold=score_threshold if title == "detections" else 0.0,
                    draw_uncertainties=draw_uncertainties and title == "detections",
                    draw_intervals=draw_intervals and title == "detections",
                )
                for title, entry in zip(titles, entries)
            ]
        )
    return _grid(cells, titles, columns)


def _to_picture(image):
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        image = np.clip(np.rint(image), 0, 255).astype("uint8")
    return Image.fromarray(read_image(image))


def _rows(detections, class_names, score_threshold):
    """One dictionary a detection to draw: box, label, name, confidence (or None), ignored."""
    classes_key = "classes" if "classes" in detections else "labels"
    if not {"boxes", classes_key} <= set(detections):
        raise ValueError(
            'Detections must have "boxes" and "classes" (or "labels"). '
            f"Received: {sorted(detections)}."
        )
    boxes = np.asarray(detections["boxes"], "float64").reshape(-1, 4)
    classes = np.asarray(detections[classes_key]).reshape(-1).astype("int64")
    if len(boxes) != len(classes):
        raise ValueError(
            f'"boxes" and "{classes_key}" differ in length: {len(boxes)} and {len(classes)}.'
        )
    confidence = detections.get("confidence")
    ignored = detections.get("ignored", np.zeros(len(boxes)))
    track_ids = detections.get("track_ids", np.full(len(boxes), -1))
    of_sides = {n: detections[n] for n in ("uncertainties", "intervals") if n in detections}
    names = detections.get("class_names") if class_names is None else None
    count = int(detections.get("num_detections", len(boxes)))
    rows = []
    for index, (box, label) in enumerate(zip(boxes[:count], classes)):
        score = None if confidence is None else confidence[index]
        score = None if score is None else float(score)
        # Ground truth has no score to be compared; padding has -1.
        is_unsure = score is not None and not score >= max(score_threshold, 0.0)
        if label < 0 or not np.isfinite(box).all() or is_unsure:
            continue
        rows.append(
            {
                "box": box,
                "label": int(label),
                "name": str(names[index]) if names is not None else _name(label, class_names),
                "confidence": score,
                "ignored": bool(ignored[index]),
                "track_id": track_ids[index],
                **{n: np.asarray(values[index], "float64") for n, values in of_sides.items()},
            }
        )
    return rows


def _name(label, class_names):
    return str(class_names[label]) if class_names and label < len(class_names) else str(label)


def _scaled(detections, scale):
    sides = [n for n in ("boxes", "uncertainties", "intervals") if n in detections]
    scaled = {n: np.asarray(detections[n], "float64") * scale for n in sides}
    scaled["boxes"] = scaled["boxes"].reshape(-1, 4)
    return {**detections, **scaled}


def _corners(box):
    """Whole pixels with left <= right and top <= bottom, which PIL insists on."""
    left, top, right, bottom = (round(side) for side in box.tolist())
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _colour_of(row, colours):
    if row["ignored"]:
        return IGNORED_COLOUR
    return tuple(colours[row["label"]]) if colours is not None else class_colour(row["label"])


def _shade_sides(picture, colour, intervals):
    """Four bands over the intervals (4, 2) of the sides of a box, together a frame."""
    lower, upper = np.round(intervals).T
    ends_outside = np.array([False, False, True, True])  # of right and bottom it is the upper end
    outer = np.where(ends_outside, upper, lower)
    outer = np.clip(outer, 0, np.array(picture.size * 2)).astype(int)
    inner = np.where(ends_outside, lower, upper).astype(int)
    width, height = outer[2:] - outer[:2]
    if width < 1 or height < 1:
        return
    mask = np.full((height, width), round(255 * SHADE), "uint8")
    # Empty where the bands of opposite sides meet in a small box.
    left, top, right, bottom = np.maximum(inner - np.tile(outer[:2], 2), 0)
    mask[top:bottom, left:right] = 0
    picture.paste(colour, tuple(outer.tolist()), Image.fromarray(mask))


def _draw_tag(draw, size, row, font):
    """A filled tag above the box, or inside its upper edge where the image ends."""
    text = row["name"] + (" (ignored)" if row["ignored"] else "")
    if row["confidence"] is not None:
        text += f" {row['confidence']:.2f}"
    if row["track_id"] >= 0:
        text += f" #{row['track_id']}"
    left, top, _, _ = _corners(row["box"])
    padding = max(1, font.size // 6)
    text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), text, font=font)
    width = text_right - text_left + 2 * padding
    height = text_bottom - text_top + 2 * padding
    left = max(0, min(left, size[0] - width))
    top = top - height if top >= height else max(0, min(top, size[1] - height))
    draw.rectangle([left, top, left + width - 1, top + height - 1], fill=row["colour"])
    red, green, blue = row["colour"]
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    draw.text(
        (left + padding - text_left, top + padding - text_top),
        text,
        fill=(0, 0, 0) if is_light else (255, 255, 255),
        font=font,
    )


def _grid(cells, titles, columns):
    """Pastes rows of cells, a cell being the pictures of one image, under their titles."""
    font = _font(18)
    width = max(picture.width for cell in cells for picture in cell)
    header = font.size + 2 * MARGIN
    lines = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(picture.height for cell in line for picture in cell) for line in lines]
    across = columns * len(titles)
    total_height = header + sum(heights) + MARGIN * len(lines)
    canvas = Image.new("RGB", (MARGIN + across * (width + MARGIN), total_height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index in range(across):
        position = (MARGIN + index * (width + MARGIN), MARGIN)
        draw.text(position, titles[index % len(titles)], fill=TEXT, font=font)
    top = header
    for line, height in zip(lines, heights):
        pictures = [picture for cell in line for picture in cell]
        for index, picture in enumerate(pictures):
            canvas.paste(picture, (MARGIN + index * (width + MARGIN), top))
        top += height + MARGIN
    return canvas


def _font(size):
    return ImageFont.load_default(size=size)
