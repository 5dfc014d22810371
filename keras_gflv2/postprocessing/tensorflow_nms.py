"""Non-maximum suppression by TensorFlow's own operator, where it can be used."""

import contextlib
import contextvars

import keras

IS_ALLOWED: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "whether graphs may have operators that only TensorFlow has"
)


@contextlib.contextmanager
def forbidden():
    """Graphs that are traced inside become those of another runtime: without the operator."""
    token = IS_ALLOWED.set(False)
    try:
        yield
    finally:
        IS_ALLOWED.reset(token)


def applies(iou_threshold):
    """Whether the operator can be used: on TensorFlow without XLA, for one threshold in 0..1."""
    if keras.backend.backend() != "tensorflow" or not isinstance(iou_threshold, (int, float)):
        return False
    if not IS_ALLOWED.get(True):
        return False
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    in_xla = GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return 0 <= iou_threshold <= 1 and not in_xla


def select(selected, candidates, iou_threshold, num_classes):
    """What is kept of the `selected` (B, D) and, after them, of the `candidates` (B, N).

    Both are dicts of "confidence", "classes", "indices" and "boxes"; so is the result.

    The operator has equal scores in any order, and does not say which candidates it keeps. So it
    gets ranks instead of scores, from N + D down to 1: none are equal, and they tell the candidate.
    """
    import tensorflow as tf

    both = {name: tf.concat([selected[name], candidates[name]], axis=1) for name in selected}
    count = tf.shape(both["confidence"])[1]
    ranks = tf.where(both["confidence"] > 0, tf.cast(count - tf.range(count), tf.float32), 0.0)
    length = selected["confidence"].shape[1]
    # The operator exchanges sides in the wrong order, which overlap nothing elsewhere.
    first, second = both["boxes"][..., :2], both["boxes"][..., 2:]
    corners = tf.concat([first, tf.maximum(first, second)], axis=-1)
    kept = tf.raw_ops.CombinedNonMaxSuppression(
        boxes=corners[:, :, None],
        scores=tf.one_hot(both["classes"], num_classes) * ranks[..., None],
        max_output_size_per_class=length,
        max_total_size=length,
        iou_threshold=iou_threshold,
        score_threshold=0.0,
        clip_boxes=False,
    )
    present = kept.nmsed_scores > 0
    position = tf.where(present, count - tf.cast(kept.nmsed_scores, tf.int32), 0)
    found = {name: tf.gather(values, position, batch_dims=1) for name, values in both.items()}
    return {
        "confidence": tf.where(present, found["confidence"], -1.0),
        "classes": tf.where(present, found["classes"], -1),
        "indices": tf.where(present, found["indices"], -1),
        "boxes": kept.nmsed_boxes,
    }
