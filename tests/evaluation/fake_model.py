"""A detector with prepared answers, and batches for it."""

import numpy as np

from keras_gflv2.evaluation import evaluate_coco


class FakeModel:
    """A detector which answers with prepared detections, a list of boxes for each image."""

    class_names = None

    def __init__(self, detections, num_classes=2, bounding_box_format="xyxy", slots=20):
        self.detections = list(detections)  # of (boxes, classes, scores)
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.slots = slots
        self.seen = []

    def predict_on_batch(self, inputs):
        size = len(inputs["images"])
        self.seen.append(size)
        boxes = np.full((size, self.slots, 4), -1.0, "float32")
        classes = np.full((size, self.slots), -1, "int32")
        confidence = np.full((size, self.slots), -1.0, "float32")
        for index in range(size):
            found, labels, scores = self.detections.pop(0) if self.detections else ([], [], [])
            boxes[index, : len(found)] = np.reshape(found, (-1, 4))
            classes[index, : len(found)] = labels
            confidence[index, : len(found)] = scores
        return {"boxes": boxes, "classes": classes, "confidence": confidence}


class Dataset(list):
    """Batches in a list, with the attributes of our loaders."""


def make_batch(boxes, classes, size=(200, 300), **extras):
    """One batch; `boxes` and `classes` are lists, an entry an image, padded here with -1."""
    width = max(1, *(len(c) for c in classes)) + 1
    truth = {
        "boxes": np.full((len(boxes), width, 4), -1.0, "float32"),
        "classes": np.full((len(boxes), width), -1, "int32"),
    }
    for index, (image_boxes, image_classes) in enumerate(zip(boxes, classes)):
        truth["boxes"][index, : len(image_boxes)] = np.reshape(image_boxes, (-1, 4))
        truth["classes"][index, : len(image_classes)] = image_classes
    for key in ("ignored", "areas"):
        if key in extras:
            values = np.zeros((len(boxes), width), "float32")
            for index, row in enumerate(extras.pop(key)):
                values[index, : len(row)] = row
            truth[key] = values
    images = np.zeros((len(boxes), *size, 3), "float32")
    return {"images": images, "bounding_boxes": truth, **extras}


BOXES = [[[10, 10, 60, 60], [100, 20, 180, 120]], [[5, 5, 25, 25]]]
CLASSES = [[0, 1], [0]]
SCORES = [[0.9, 0.8], [0.7]]


def evaluate(model, dataset):
    return evaluate_coco(model, dataset, verbose=0)
