"""A decoder with the NMS operator of LiteRT: for one image, and one class after the other."""

import math

import numpy as np
import tensorflow as tf

from keras_gflv2.postprocessing import PredictionDecoder

# Farther than any pixel, and in steps of 2 exact in float32.
FAR = float(2**20)


class LiteRTDecoder(PredictionDecoder):
    """`PredictionDecoder` for graphs that become LiteRT models; the batch is one image.

    The operator of LiteRT (2.3) differs from greedy NMS in three points. An overlap that equals
    the threshold suppresses; so it gets the next larger number. Of equal scores any may come first;
    so it gets ranks instead. A box that is kept is looked at again, and kept again unless it
    overlaps itself; so boxes without area, which overlap none, become squares far outside.
    """

    def suppress(self, scores, boxes, score_threshold, iou_threshold):
        count, num_classes = scores.shape[1:]
        scores = tf.where(scores > score_threshold, tf.cast(scores, tf.float32), 0.0)[0]
        corners = _with_area(boxes[0])
        length = min(self.max_detections, count)
        kept = []
        for each_class in range(num_classes):
            location, valid = self._remaining(scores[:, each_class], corners, length)
            pairs = tf.stack([location, tf.fill([length], each_class)], axis=-1)
            kept.append((pairs, valid))
        pairs, valid = (tf.concat(parts, axis=0) for parts in zip(*kept))
        # Rows are added, so that there are D pairs in any case.
        more_rows = math.ceil(self.max_detections / num_classes)
        is_kept = tf.scatter_nd(pairs, valid, (count + more_rows, num_classes)) > 0
        all_scores = tf.where(is_kept, tf.pad(scores, [[0, more_rows], [0, 0]]), -1.0)
        confidence, pair = tf.math.top_k(tf.reshape(all_scores, [-1]), self.max_detections)
        found = confidence > 0
        return {
            "confidence": confidence[None],
            "classes": tf.where(found, pair % num_classes, -1)[None],
            "indices": tf.where(found, pair // num_classes, -1)[None],
        }

    def _remaining(self, scores, corners, length):
        """Locations (length,) of one class after NMS, and (length,) 1 or 0 which of them are."""
        count = scores.shape[0]
        values, order = tf.math.top_k(scores, count)
        ranks = tf.where(values > 0, tf.range(count, 0, -1, dtype=tf.float32), 0.0)
        chosen, number = tf.raw_ops.NonMaxSuppressionV4(
            boxes=tf.gather(corners, order),
            scores=ranks,
            max_output_size=length,
            iou_threshold=np.nextafter(np.float32(self.nms_iou_threshold), np.float32(1)),
            score_threshold=0.5,
            pad_to_max_output_size=True,
        )
        return tf.gather(order, chosen), tf.cast(tf.range(length) < number, tf.float32)


def _with_area(corners):
    """Boxes (M, 4), those without area replaced by squares that overlap no other."""
    width, height = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    has_area = (width > 0) & (height > 0) & (width * height > 0)
    left = -FAR - 2.0 * tf.range(corners.shape[0], dtype=tf.float32)
    top = tf.fill(left.shape, -FAR)
    squares = tf.stack([left, top, left + 1, top + 1], axis=-1)
    return tf.where(has_area[:, None], corners, squares)
