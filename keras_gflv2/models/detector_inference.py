"""How a detector finds objects: batches, arrays, datasets or photos go in, detections come out."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_gflv2.annotations import Verbose
from keras_gflv2.batches import in_few_lengths
from keras_gflv2.canvas_plan import CanvasPlan
from keras_gflv2.contract import DataContract, check_pixels, unpack
from keras_gflv2.layers.own_canvas import own_canvases
from keras_gflv2.models.detect import check_calibrated, detect
from keras_gflv2.postprocessing import SideCalibration
from keras_gflv2.replicas import compiles_each_shape, is_spread, predict_on_one_device
from keras_gflv2.tiles import DEFAULT_OVERLAP
from keras_gflv2.training.feeding import Feeding
from keras_gflv2.training.sources import KERAS_BATCH_SIZE


class DetectorInference(keras.Model):
    """What a dense detector has of inference: `predict`, `predict_on_batch` and `detect`.

    A subclass has the attributes `num_classes` and `bounding_box_format` and the method
    `decode_predictions`.
    """

    def prepare_inference(self):
        """Called once, at the end of the constructor."""
        self.one_device_prediction = None  # of `predict_on_one_device`
        self._canvas_plan = CanvasPlan()
        self._calibration = None

    @property
    def calibration(self):
        """The `SideCalibration` of the uncertainties, or None; saved with the detector."""
        return self._calibration

    @calibration.setter
    def calibration(self, value):
        if value is not None and not isinstance(value, SideCalibration):
            raise ValueError(f"`calibration` must be a SideCalibration or None, got {value!r}.")
        self._calibration = value
        # What was compiled computes the old uncertainties.
        self.predict_function = self.one_device_prediction = None

    def drop_calibration(self):
        """Forgets the calibration, which is of the weights so far, with a warning."""
        if self.calibration is not None:
            warnings.warn(
                "The calibration of the detector's uncertainties is of its weights so far: "
                "training drops it. Run keras-gflv2 calibrate, or evaluation.calibrate, after it.",
                stacklevel=3,
            )
            self.calibration = None

    @property
    def canvas_plan(self):
        """The `CanvasPlan` for images of many sizes; None where each has a canvas of its own."""
        # PyTorch compiles anew for a few shapes only, then for all.
        shares = keras.backend.backend() != "torch" and compiles_each_shape(self)
        return self._canvas_plan if shares and knows_own_canvases(self) else None

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> dict[str, np.ndarray]:
        """Detections in a batch, an array or a dataset of images.

        Batches run as they are padded, and padding changes scores a little: normalization over
        groups of channels sees it. `detect` and evaluation pad each image by itself.

        Args:
            x: images (B, H, W, 3), a dictionary with "images" and, optionally, "image_sizes", or
                a dataset of either.
            batch_size, verbose, steps, callbacks: as in `keras.Model.predict`.

        Returns:
            Dictionary of numpy arrays: "boxes" (B, D, 4) in `bounding_box_format`, "classes"
            (B, D), "confidence" (B, D), best first, -1 after the last; "num_detections" (B,).
            Of detectors with distributions also "uncertainties" (B, D, 4): the standard deviation
            of the left, top, right and bottom side (calibrated where the detector has a
            `calibration`), in this order whatever the format, in pixels of
            the batch or, where the format is relative, in fractions of its width and height.
            Detectors without distributions, and decoders that do not tell the "locations" of their
            detections, have no such key.
        """
        feeding = Feeding(DataContract.of(self), need_targets=False)
        with self._guarded(feeding):
            x, _ = feeding.checked(x)
            inputs = x if isinstance(x, dict) else {"images": x}
            if isinstance(inputs["images"], np.ndarray) and not is_spread(self):
                return self._predict_arrays(inputs, batch_size, verbose, steps, callbacks)
            return super().predict(x, batch_size, verbose, steps, callbacks)

    def _predict_arrays(self, inputs, batch_size, verbose, steps, callbacks):
        """`keras.Model.predict` of arrays, which would build a pipeline of tf.data for them."""
        total = len(inputs["images"])
        batch_size = batch_size or (-(-total // steps) if steps else KERAS_BATCH_SIZE)
        starts = range(0, max(total, 1), max(batch_size, 1))[:steps]
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = keras.callbacks.CallbackList(
                callbacks,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=1,
                steps=len(starts),
                model=self,
            )
        self.stop_predicting = False
        callbacks.on_predict_begin()
        found = []
        for step, start in enumerate(starts):
            callbacks.on_predict_batch_begin(step)
            batch = {key: value[start : start + batch_size] for key, value in inputs.items()}
            found.append(in_few_lengths(self, self._detect_batch, batch, min(batch_size, total)))
            callbacks.on_predict_batch_end(step, {"outputs": found[-1]})
            if self.stop_predicting:
                break
        callbacks.on_predict_end()
        return {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}

    def predict_on_batch(self, x: Any) -> dict[str, np.ndarray]:
        """As `predict`, for one batch, of any size, on one device.

        With "canvas_sizes" (B, 2), height and width of a canvas of each image's own, multiples of
        32 pixels, nothing outside of it is seen, if all parts are of this package.
        """
        images, targets = unpack(x)
        if isinstance(images, np.ndarray):
            check_pixels(images)
        sizes = {key: targets[key] for key in ("image_sizes", "canvas_sizes") if key in targets}
        return self._detect_batch({"images": images, **sizes})

    def _detect_batch(self, batch):
        """Detections in a dictionary of "images" and, optionally, "image_sizes", not checked."""
        return predict_on_one_device(self, batch)

    def predict_step(self, *args):
        # JAX passes its state before the data.
        images, targets = unpack(args[-1])
        with own_canvases(targets.get("canvas_sizes"), images.shape[1:3]):
            outputs = super().predict_step(*args[:-1], (images,))
        if isinstance(outputs, tuple):  # JAX returns the state too
            outputs, state = outputs
            return self.decode_predictions(outputs, images, targets.get("image_sizes")), state
        return self.decode_predictions(outputs, images, targets.get("image_sizes"))

    def detect(
        self,
        images,
        score_threshold=0.3,
        image_size=None,
        batch_size=8,
        *,
        coverage=None,
        predict=None,
        tile=None,
        overlap=DEFAULT_OVERLAP,
    ):
        """Detections in images of any sizes, in each image's own pixels.

        Each image is resized, and padded at the right and at the bottom, with `padding_color`, to
        the next multiple of 32 pixels of its own height and width, its canvas: its detections are
        those that it has alone. Images of one canvas run together. TensorFlow traces the network
        once for all sizes. JAX, and TensorFlow with `jit_compile=True`, compile it for each: there
        several sizes share a larger canvas (`CanvasPlan`), of which an image sees, to rounding, no
        more than its own. A size that comes often gets a canvas of its own in time, and a canvas
        that does is compiled once more, for `batch_size` images. A detector that has a backbone or
        another part from elsewhere is compiled for the canvas of every size.

        Args:
            images: one or a list of what `images.read_image` takes: paths, encoded bytes, PIL
                images or arrays (H, W, 3) RGB in 0..255. They are read one after another, and one
                that cannot be read is an error.
            score_threshold: detections below are left out.
            image_size: (short side, longest long side) to resize to. Default: `self.image_size`.
            batch_size: images of one canvas are run together, at most so many.
            coverage: probability, such as 0.9, with which "intervals" hold the true sides. It needs
                a calibration: `evaluation.calibrate`, or the command keras-gflv2 calibrate.
            predict: function that finds the detections of a batch. Default: this model's; the
                `predict_on_batch` of a `TestTimeAugmentation`, for example.
            tile: for large images, the side in pixels of the tiles, or their (height, width), in
                which they are looked at. Each tile is resized to `image_size` as an image of its
                size would be, and so, by the same factor, are smaller ones: take tiles as large as
                the images of the training, and objects have the size that they had there. There
                may be as many detections per tile as else per image. `tiles.merge_tiles` makes
                them the detections of the image.
            overlap: the least overlap of neighboring tiles as a fraction of a tile. Objects that
                are not larger are seen whole; of larger ones pieces are put together.

        Returns:
            List of `Detections`, a dictionary per image: "boxes" (n, 4) float32 xyxy in pixels of
            that image, "classes" (n,), "confidence" (n,), best first, "class_names" (list of n
            strings) and, of detectors with distributions, "uncertainties" (n, 4): standard
            deviation of the left, top, right and bottom side, in pixels of that image. With
            `coverage` also "intervals" (n, 4, 2) float32: lower and upper end for each of these
            sides, in the same
            pixels. For a detection that matches an object they hold each side of it with that
            probability (`postprocessing.SideCalibration`).

        Raises:
            ValueError: `coverage` is given and there is no calibration, or none for so much; or
                `tile` or `overlap` is no size.
        """
        plan = None if predict else self.canvas_plan
        predict = predict or self._detect_batch
        if coverage is not None:
            check_calibrated(self, coverage)
        return detect(
            self,
            predict,
            plan,
            images,
            score_threshold,
            image_size,
            batch_size,
            coverage,
            tile,
            overlap,
        )


def knows_own_canvases(model):
    """Whether all layers of a `DenseDetector` respect `own_canvases`: all parts are of here."""
    sampler = getattr(model.quality, "sampler", None)
    parts = [model, model.backbone, model.feature_pyramid, model.head, model.prediction_decoder]
    parts += [model.quality, sampler, getattr(sampler, "base", None)]
    package = __name__.partition(".")[0]
    return all(p is None or type(p).__module__.partition(".")[0] == package for p in parts)
