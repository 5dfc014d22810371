"""What `detect` returns for an image."""

import numpy as np


class Detections(dict):
    """The detections of one image: a dictionary of arrays with a row for each, best first.

    "boxes" (n, 4) float32 xyxy in pixels, "classes" (n,), "confidence" (n,) and "class_names" (list
    of n strings); where they are known, "uncertainties" (n, 4), "intervals" (n, 4, 2) and, of
    tracked objects in videos, "track_ids" (n,).
    """

    def to_supervision(self):
        """The same as `supervision.Detections`, for its annotators, zones and trackers.

        Class names, uncertainties and intervals are in its `data` under their names, track ids in
        `tracker_id`.

        Raises:
            ImportError: the library supervision is not installed.

        >>> found = model.detect("street.jpg")[0].to_supervision()
        >>> supervision.BoxAnnotator().annotate(image, found)
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError(
                "to_supervision() needs the library supervision: pip install "
                "'keras-gflv2[supervision]'."
            ) from error
        data = {name: self[name] for name in ("uncertainties", "intervals") if name in self}
        return supervision.Detections(
            xyxy=np.asarray(self["boxes"], "float32").reshape(-1, 4),
            confidence=np.asarray(self["confidence"], "float32"),
            class_id=np.asarray(self["classes"], "int64"),
            tracker_id=self.get("track_ids"),
            data={"class_name": np.array(self["class_names"], dtype=str), **data},
        )

    def rows(self, chosen):
        """The detections of some rows (indices or booleans), in their order.

        Returns:
            `Detections`.
        """
        values = {name: v for name, v in self.items() if name != "class_names"}
        # Of a server also "status", which is one for all.
        arrays = {n: v[chosen] if isinstance(v, np.ndarray) else v for n, v in values.items()}
        names = np.array(self["class_names"], object)[chosen].tolist()
        return Detections(arrays, class_names=names)


def coco_results(found):
    """Detections of an image in COCO's results format, without the name of the image.

    Args:
        found: `Detections`.

    Returns:
        List of {"category_id", the index of the class + 1, "category_name", "bbox": [x, y, width,
        height] in pixels, "score"}; where they are known, "uncertainties" (4,), "intervals" (4, 2)
        and "track_id".
    """
    results = [
        {
            "category_id": int(label) + 1,
            "category_name": name,
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for (x1, y1, x2, y2), label, name, score in zip(
            found["boxes"], found["classes"], found["class_names"], found["confidence"]
        )
    ]
    for name in ("uncertainties", "intervals"):
        for result, sides in zip(results, found.get(name, ())):
            result[name] = sides.tolist()
    for result, track_id in zip(results, found.get("track_ids", ())):
        if track_id >= 0:
            result["track_id"] = int(track_id)
    return results
