"""A detector that looks at every image several times: at other sizes, and in the mirror."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.annotations import Detector
from keras_gflv2.postprocessing.voting import vote
from keras_gflv2.replicas import predict_on_one_device
from keras_gflv2.rows import take_rows


@keras.saving.register_keras_serializable(package="keras_gflv2")
class TestTimeAugmentation(keras.Model):
    """Detections from several views of each image, merged before non-maximum suppression.

    It takes the place of the detector in `predict`, `predict_on_batch`, `detect`, `evaluate_coco`
    and `COCOMetrics` (GFLV2, Table 7, "multi-scale test"). It takes as many times as long as there
    are views, weighted by their areas.

    Args:
        model: a dense detector.
        scales: sizes of the views relative to the batch's. Views larger than 1 are enlarged from
            the batch: where images have more pixels to show, load the data at the largest size and
            use scales below 1.
        flips: whether to look at the mirror image of each view too.
        box_voting: whether a detection's box becomes the mean of all candidates of its class that
            overlap it by more than 0.65, weighted by their scores (Gidaris and Komodakis, 2015).
            Its uncertainties become the mean of theirs by the same weights: the candidates see one
            image, so that their errors do not average out. Otherwise they are those of the view in
            which the box was found.

    Raises:
        ValueError: there is no scale, or one that is not positive; or the decoder of the detector
            has a `box_voting` of its own, too.

    >>> tta = TestTimeAugmentation(model, scales=(0.75, 1.0, 1.25))
    >>> keras_gflv2.evaluation.evaluate_coco(tta, val_ds)["AP"]
    """

    __test__ = False  # pytest takes classes of this name for tests

    def __init__(
        self,
        model: Detector,
        scales: Sequence[float] = (0.75, 1.0, 1.25),
        flips: bool = True,
        box_voting: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not scales or min(scales) <= 0:
            raise ValueError(f"`scales` must be positive numbers, at least one; got {scales!r}.")
        if box_voting and getattr(model.prediction_decoder, "box_voting", None):
            raise ValueError(
                "The detector's decoder votes on its boxes already, over all views. Leave out "
                "`box_voting` here, or there."
            )
        self.model = model
        self.scales = tuple(float(scale) for scale in scales)
        self.flips = flips
        self.box_voting = box_voting
        self.built = True  # The model has all weights.
        self.one_device_prediction = None  # of `predict_on_one_device`

        # What a dataset is compared with.
        self.num_classes = model.num_classes
        self.class_names = model.class_names
        self.bounding_box_format = model.bounding_box_format

    @property
    def padding_color(self):
        """As that of the detector."""
        return self.model.padding_color

    @property
    def padding_colour(self):
        """`padding_color`, as version 0.1 spelled it."""
        return self.padding_color

    def call(self, inputs):
        """Detections, as `DenseDetector.predict` returns them.

        Args:
            inputs: images (B, H, W, 3), or a dictionary of "images" and, optionally, "image_sizes".
        """
        batch = inputs if isinstance(inputs, dict) else {"images": inputs}
        images, image_sizes = ops.cast(batch["images"], "float32"), batch.get("image_sizes")
        views = [(scale, flip) for scale in self.scales for flip in (False, True)[: 1 + self.flips]]
        found = [self._view(images, image_sizes, *view) for view in views]
        scores, boxes, candidates, spread = (
            None if parts[0] is None else ops.concatenate(parts, axis=1)
            for parts in list(zip(*found))[:4]
        )
        lengths = [length for *_, lengths in found for length in lengths]
        decoder = self.model.prediction_decoder
        more = {} if candidates is None else {"candidate_scores": candidates}
        if getattr(decoder, "box_voting", None) == "variance":
            more["spread"] = spread
        detections = dict(decoder(scores, boxes, locations_per_level=lengths, **more))
        locations = detections.pop("locations", None)
        if spread is not None and locations is not None:
            detections["uncertainties"] = take_rows(spread, ops.maximum(locations, 0))
        if self.box_voting:
            chosen = scores if candidates is None else candidates
            scores = ops.where(chosen > decoder.score_threshold, scores, 0.0)
            values = {"boxes": boxes, "uncertainties": spread}
            names = [name for name in values if name in detections]
            sides = ops.concatenate([values[name] for name in names], axis=-1)
            voted = vote(detections, scores, sides)
            detections.update(zip(names, ops.split(voted, len(names), axis=-1)))
        return self.model.finish_detections(detections, *ops.shape(images)[1:3])

    def get_config(self):
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "scales": self.scales,
            "flips": self.flips,
            "box_voting": self.box_voting,
        }

    @classmethod
    def from_config(cls, config):
        model = config["model"]
        if isinstance(model, dict):
            model = keras.saving.deserialize_keras_object(model)
        return cls(**{**config, "model": model})

    def _view(self, images, image_sizes, scale, flip):
        """What one view has to say, of images of the batch.

        Returns:
            Scores (B, A, C), boxes (B, A, 4) in pixels of the batch, scores of candidates (B, A, C)
            or None, standard deviations of the sides (B, A, 4) or None, and how many locations each
            level has.
        """
        height, width = ops.shape(images)[1:3]
        if image_sizes is None:
            image_sizes = ops.stack([height, width])[None]
        seen = [_scaled(side, scale) for side in (height, width)]
        if scale != 1.0:
            images = ops.image.resize(
                images, seen, interpolation="bilinear", data_format="channels_last"
            )
        if flip:
            images = ops.flip(images, axis=2)
        predictions = self.model(images, training=False)
        boxes, lengths = self.model.locate(predictions, *seen)
        x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
        sizes = ops.cast(ops.stack([height, width, *seen]), "float32")
        if flip:
            x1, x2 = sizes[3] - x2, sizes[3] - x1
        along_y, along_x = sizes[0] / sizes[2], sizes[1] / sizes[3]
        scales = ops.stack([along_x, along_y, along_x, along_y])
        boxes = self.model.clip_boxes(ops.stack([x1, y1, x2, y2], axis=-1) * scales, image_sizes)
        spread = self.model.spread(predictions, *seen)
        if spread is not None:
            spread = (ops.take(spread, [2, 1, 0, 3], axis=-1) if flip else spread) * scales
        candidates = self.model.candidate_scores(predictions)
        return predictions["scores"], boxes, candidates, spread, lengths

    def predict_on_batch(self, x):
        """As `predict`, for one batch, of any size, on one device."""
        return predict_on_one_device(self, x)

    def detect(self, images, score_threshold=0.3, image_size=None, batch_size=8, **options):
        """As `DenseDetector.detect`, with its `coverage`, `tile` and `overlap`. The calibration of
        the detector is not one of several views: check the coverage of intervals by
        `evaluation.uncertainty`."""
        return self.model.detect(
            images,
            score_threshold,
            image_size,
            batch_size,
            predict=self.predict_on_batch,
            **options,
        )


def _scaled(side, scale):
    """A side of the view in pixels; an int of an int, a tensor of a tensor."""
    if scale == 1.0:
        return side
    if isinstance(side, int):
        return max(round(side * scale), 1)
    return ops.maximum(ops.cast(ops.round(ops.cast(side, "float32") * scale), "int32"), 1)
