"""A detector whose thresholds can be moved: an image goes through its network once.

In: the pixels of an image. Out: what the network says of it (`look`), and from that, as often as
asked and for any threshold of NMS, detections in the image's own pixels with all that the detector
knows of them (`decode`).
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_gflv2.boxes import convert_sides
from keras_gflv2.canvases import own_canvas
from keras_gflv2.contract import class_names_of, unpack
from keras_gflv2.detections import Detections, coco_results
from keras_gflv2.images import resize_image, resize_shape
from keras_gflv2.layers.own_canvas import own_canvases
from keras_gflv2.models.detect import check_calibrated
from keras_gflv2.replicas.one_device_prediction import OneDevicePrediction
from keras_gflv2.reporting.gallery import side_data
from keras_gflv2.reporting.web import plain
from keras_gflv2.rows import take_rows
from keras_gflv2.visualization.figures.scenes import class_and_quality
from keras_gflv2.visualization.figures.side_distributions import bins_of_sides


@dataclasses.dataclass(frozen=True)
class Looked:
    """What the network says of one image.

    Attributes:
        outputs: dictionary of arrays (1, A, ...), as calling the model returns it.
        canvas, resized, size: height and width of what the network saw, of the image in it, and of
            the image itself.
    """

    outputs: dict
    canvas: tuple
    resized: tuple
    size: tuple

    @property
    def nbytes(self):
        """Bytes of the arrays."""
        return sum(values.nbytes for values in self.outputs.values())


class _Network(keras.Model):
    """A detector without its decoder."""

    def predict_step(self, *args):
        # JAX passes its state before the data.
        images, targets = unpack(args[-1])
        with own_canvases(targets.get("canvas_sizes"), images.shape[1:3]):
            return super().predict_step(*args[:-1], (images,))


class InteractiveDetector:
    """A detector that decodes what it has seen of an image anew for other thresholds.

    Detections are those of `DenseDetector.detect`. Not for several threads at a time.

    Args:
        model: a `DenseDetector`.
        image_size: (short side, longest long side) to which images are resized. Default:
            `model.image_size`.
        coverage: probability of "intervals", as in `detect`, or None.

    Attributes:
        least_score: detections below it are never told: the threshold of the model's decoder.
        nms_iou_threshold: of the model's decoder.

    Raises:
        ValueError: `coverage` is given and the model has no calibration for so much.
    """

    def __init__(self, model, image_size=None, coverage=None):
        if coverage is not None:
            check_calibrated(model, coverage)
        self.model = model
        self.image_size = tuple(image_size or model.image_size)
        self.coverage = coverage
        self.class_names = [str(name) for name in class_names_of(model)]
        self.has_distributions = model.representation.has_spread
        self.least_score = float(getattr(model.prediction_decoder, "score_threshold", 0.05))
        self.nms_iou_threshold = float(getattr(model.prediction_decoder, "nms_iou_threshold", 0.6))
        network = _Network(model.input, model.output, name="network")
        network.make_predict_function()
        self._network = OneDevicePrediction(network)
        self._decode = self._detections
        if keras.backend.backend() == "jax":
            import jax

            self._decode = jax.jit(self._detections, static_argnums=(3, 4))

    def look(self, pixels):
        """Runs the network.

        Args:
            pixels: uint8 array (H, W, 3), RGB.

        Returns:
            `Looked`.
        """
        resized = resize_image(pixels, resize_shape(pixels.shape[:2], self.image_size))
        own, plan = own_canvas(resized), self.model.canvas_plan
        canvas = plan.choose(own, self.image_size) if plan else own
        images = np.empty((1, *canvas, 3), "float32")
        images[:] = self.model.padding_color
        images[0, : resized.shape[0], : resized.shape[1]] = resized
        batch = {"images": images}
        if plan:
            batch["canvas_sizes"] = np.array([own], "int32")
        outputs = self._network(batch)
        return Looked(outputs, tuple(canvas), resized.shape[:2], pixels.shape[:2])

    def decode(self, looked, nms_iou_threshold=None):
        """Detections with scores above `least_score`, best first, as data for JSON.

        Args:
            looked: what `look` returned.
            nms_iou_threshold: 0 to 1. Default: that of the model's decoder.

        Returns:
            List of dictionaries: "result", as `coco_results` has it; "box" (4,), xyxy in pixels of
            the image; "class", an index; "class_score" and "quality", whose product is the score
            (None where they are unknown, and of detectors without quality); and of detectors with
            distributions "sides", as in `reporting.gallery.gallery_of`.
        """
        if nms_iou_threshold is None:
            nms_iou_threshold = self.nms_iou_threshold
        found = self._decode(
            {name: ops.convert_to_tensor(values) for name, values in looked.outputs.items()},
            ops.convert_to_tensor([looked.resized], dtype="int32"),
            ops.convert_to_tensor([nms_iou_threshold], dtype="float32"),
            *looked.canvas,
        )
        found = {name: ops.convert_to_numpy(values)[0] for name, values in found.items()}
        found = {name: values[found["classes"] >= 0] for name, values in found.items()}
        return self._told(found, looked)

    def _detections(self, outputs, image_sizes, nms_iou_threshold, height, width):
        """What the decoder keeps, xyxy in pixels of the canvas, with all that is known of it.

        Args:
            outputs: of the network, (1, A, ...).
            image_sizes: (1, 2) height and width of the image in its canvas.
            nms_iou_threshold: (1,).
            height, width: of the canvas.
        """
        model, at = self.model, self.model.grid(height, width)
        found = model.select_detections(
            outputs, at, image_sizes, nms_iou_threshold=nms_iou_threshold
        )
        locations = found.pop("locations", None)
        found.pop("num_detections", None)
        raw = outputs[model.representation.output_name]
        found.update(model.uncertainties(raw, locations, at))
        found = model.finish_detections(found, height, width)
        found["boxes"] = model.convert_boxes(found["boxes"], "xyxy", height, width)
        if "uncertainties" in found:
            to_pixels = model.bounding_box_format, "xyxy", height, width
            found["uncertainties"] = convert_sides(found["uncertainties"], *to_pixels)
        if locations is not None:
            found.update(self._details(outputs, ops.maximum(locations, 0), found["classes"], at))
        return found

    def _details(self, outputs, locations, classes, at):
        """What is known at `locations` (1, D), beside boxes and scores."""
        model, representation = self.model, self.model.representation
        chosen = {name: take_rows(values, locations) for name, values in outputs.items()}
        class_scores, quality = class_and_quality(model, chosen)
        own = ops.take_along_axis(class_scores, ops.maximum(classes, 0)[..., None], axis=-1)
        details = {"class_scores": own[..., 0]}
        if quality is not None:
            details["quality"] = quality
        if representation.has_spread:
            raw, at = chosen[representation.output_name], at.take(locations)
            sizes = representation.bin_sizes(at)
            details["distributions"] = ops.softmax(ops.cast(raw, "float32"), axis=-1)
            details["bin_sizes"] = ops.broadcast_to(sizes, (*ops.shape(locations), 4))
            details["points"] = at.points
        return details

    def _told(self, found, looked):
        """The dictionaries that `decode` returns."""
        scale = np.tile(np.divide(looked.size, looked.resized)[::-1], 2).astype("float32")
        for name in ("boxes", "uncertainties"):
            if name in found:
                found[name] = found[name].astype("float32") * scale
        if self.coverage is not None and "uncertainties" in found:
            found["intervals"] = self.model.calibration.intervals(
                found["boxes"], found["uncertainties"], self.coverage
            )
        names = [self.class_names[label] for label in found["classes"]]
        results = coco_results(Detections({**found, "class_names": names}))
        return [
            {"result": result, **plain(self._details_of(found, row, scale))}
            for row, result in enumerate(results)
        ]

    def _details_of(self, found, row, scale):
        details = {
            "box": found["boxes"][row],
            "class": found["classes"][row],
            "class_score": found["class_scores"][row] if "class_scores" in found else None,
            "quality": found["quality"][row] if "quality" in found else None,
        }
        if "distributions" in found:
            distributions = found["distributions"][row]
            bins = bins_of_sides(
                found["points"][row], found["bin_sizes"][row], distributions.shape[-1]
            )
            details["sides"] = side_data(distributions, bins * scale[:, None])
        return details
