"""A model and a dataset in; of each image what the detector says at every location out."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_gflv2.batches import batches_of, to_xyxy
from keras_gflv2.targets import Targets


@dataclasses.dataclass
class Scene:
    """One image, its objects, and what a detector says of it. Pixels are those of the batch.

    Attributes:
        image: (H, W, 3) uint8, without padding.
        true_boxes: (N, 4) xyxy.
        true_classes: (N,).
        object_index: (A,) the object that each location answers for in training, -1 for none.
        points: (A, 2) x and y of the locations.
        strides: (A, 1) of their levels.
        boxes: (A, 4) xyxy, the predicted box of each location, cut at the edges of the image.
        distributions: (A, 4, n + 1) probabilities of the left, top, right and bottom side; None of
            detectors without distributions.
        bin_sizes: (A, 4) pixels between the bins of each, or None.
        spread: (A, 4) their standard deviations in pixels, or None.
        scores: (A, C), as they are ranked.
        class_scores: (A, C) without the quality.
        quality: (A,) without the class; None where the detector has none.
        detections: dictionary of "boxes" (D, 4), "classes" (D,), "confidence" (D,) and "locations"
            (D,), indices into A: what the decoder keeps, the best first.
    """

    image: np.ndarray
    true_boxes: np.ndarray
    true_classes: np.ndarray
    object_index: np.ndarray
    points: np.ndarray
    strides: np.ndarray
    boxes: np.ndarray
    distributions: np.ndarray | None
    bin_sizes: np.ndarray | None
    spread: np.ndarray | None
    scores: np.ndarray
    class_scores: np.ndarray
    quality: np.ndarray | None
    detections: dict

    @property
    def top_1(self):
        """(A,) mean over the four sides of the largest probability (GFLV2, Figure 1(b))."""
        return self.distributions.max(axis=-1).mean(axis=-1)


def scenes_of(model, dataset):
    """Yields a `Scene` for each image of a dataset.

    Args:
        model: a dense detector.
        dataset: as in `evaluate_coco`.
    """
    # Keras compiles it once, as any model; a call of the detector itself would run step by step.
    network = keras.Model(model.input, model.output)
    box_format = getattr(dataset, "bounding_box_format", None) or model.bounding_box_format
    for batch in batches_of(dataset)[0]:
        height, width = batch["images"].shape[1:3]
        sizes = batch.get("image_sizes", np.full((len(batch["images"]), 2), [height, width]))
        batch["boxes"] = to_xyxy(batch["boxes"], box_format, height, width)
        outputs = network.predict_on_batch(batch["images"])
        outputs = {name: ops.convert_to_tensor(values) for name, values in outputs.items()}
        values = _of_batch(model, batch, outputs, np.asarray(sizes, "int32"))
        shared = {name: values.pop(name) for name in ("points", "strides", "bin_sizes")}
        detections = values.pop("detections")
        for row, (rows, columns) in enumerate(np.asarray(sizes, int)):
            pixels = batch["images"][row, :rows, :columns]
            present = batch["classes"][row] >= 0
            kept = detections["classes"][row] >= 0
            yield Scene(
                image=np.clip(np.rint(pixels), 0, 255).astype("uint8"),
                true_boxes=batch["boxes"][row],
                true_classes=np.where(present, batch["classes"][row], -1).astype(int),
                detections={name: found[row][kept] for name, found in detections.items()},
                **{name: None if v is None else v[row] for name, v in values.items()},
                **shared,
            )


def _of_batch(model, batch, outputs, image_sizes):
    """Arrays (B, A, ...) for the scenes of a batch, and its detections."""
    at = model.grid(*batch["images"].shape[1:3])
    targets = Targets.from_batch(batch, "xyxy", batch["images"], model.num_classes)
    raw, representation = outputs[model.representation.output_name], model.representation
    has_spread = representation.has_spread
    class_scores, quality = class_and_quality(model, outputs)
    found = model.select_detections(outputs, at, ops.convert_to_tensor(image_sizes))
    if "locations" not in found:
        raise ValueError("These figures need a decoder that returns the locations of detections.")
    values = {
        "object_index": model.assigner(targets, at).box_index,
        "points": at.points,
        "strides": at.strides,
        "boxes": model.clip_boxes(representation.decode(raw, at), image_sizes),
        "distributions": ops.softmax(raw, axis=-1) if has_spread else None,
        "bin_sizes": ops.broadcast_to(representation.bin_sizes(at), (len(at.points), 4))
        if has_spread
        else None,
        "spread": representation.spread(raw, at) if has_spread else None,
        "scores": outputs["scores"],
        "class_scores": class_scores,
        "quality": quality,
        "detections": {k: found[k] for k in ("boxes", "classes", "confidence", "locations")},
    }
    return keras.tree.map_structure(
        lambda v: None if v is None else ops.convert_to_numpy(v), values, none_is_leaf=True
    )


def class_and_quality(model, outputs):
    """What scores are made of: class scores (B, A, C), and the quality (B, A) or None.

    Args:
        model: a dense detector.
        outputs: what calling it returns, or the same at some of the locations.
    """
    quality = None
    if model.quality:
        raw = outputs[model.representation.output_name]
        quality = model.quality.quality_alone(outputs, raw)
    class_scores = model.candidate_scores(outputs)
    if class_scores is None:
        factor = 1.0 if quality is None else ops.maximum(quality, 1e-9)[..., None]
        class_scores = outputs["scores"] / factor
    return class_scores, quality


def overlaps(boxes, other):
    """IoU (...) of boxes (..., 4) and others, which broadcast, as numpy."""
    boxes, other = np.asarray(boxes, "float64"), np.asarray(other, "float64")
    size = np.minimum(boxes[..., 2:], other[..., 2:]) - np.maximum(boxes[..., :2], other[..., :2])
    shared = np.maximum(size, 0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, other)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def draw_box(axes, box, **style):
    """A rectangle without filling around a box (4,), xyxy."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))


def show_around(axes, image, box, margin):
    """Shows a square of an image around a box, at least `margin` pixels larger to each side."""
    left, top, right, bottom = box
    axes.imshow(image, interpolation="bilinear")
    half = max(right - left, bottom - top) / 2 + margin
    centers = (left + right) / 2, (top + bottom) / 2
    # Inside of the image where it is large enough.
    x, y = (
        np.clip(center, half, size - half) if size > 2 * half else center
        for center, size in zip(centers, image.shape[1::-1])
    )
    axes.set(xlim=(x - half, x + half), ylim=(y + half, y - half))
    axes.set_facecolor("0.15")  # outside of the photo
    axes.set_xticks([])
    axes.set_yticks([])


def check_distributions(scene):
    """Raises ValueError if a figure of distributions is asked of a detector without them."""
    if scene.distributions is None:
        raise ValueError(
            "This figure shows distributions: it needs a detector whose boxes are general "
            "distributions (GFLV1, GFLV2, or others with `distribution_guided=True`)."
        )


def save(figure, path):
    """Writes a figure of matplotlib as the suffix of the path says: .png, .webp, .pdf, .svg."""
    if path.suffix == ".webp":
        figure.savefig(path, dpi=120, format="webp", pil_kwargs={"quality": 85})
    else:
        figure.savefig(path, dpi=120)
