"""Requests that TF Serving runs before it calls a version ready."""

import io

import numpy as np
from PIL import Image

from keras_gflv2.images import resize_shape

WARMUP_FILE = "tf_serving_warmup_requests"
# Both shapes of most photographs.
PHOTOGRAPHS = ((480, 640), (640, 480))


def write_warmup(directory, name, image_size):
    """Writes assets.extra/tf_serving_warmup_requests: one picture for each common signature.

    Without the package tensorflow-serving-api (the extra `serving`) nothing is written: the first
    requests will be slower.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        return
    import tensorflow as tf

    directory.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / WARMUP_FILE)) as writer:
        for signature, inputs in _requests(image_size):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(value)
            writer.write(log.SerializeToString())


def _requests(image_size):
    """Pairs of signature and {input: TensorProto}."""
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    for size in PHOTOGRAPHS:
        # One value stands for all of a tensor of equal ones.
        shape = tf.TensorShape((1, *resize_shape(size, image_size), 3)).as_proto()
        images = tensor_pb2.TensorProto(
            dtype=tf.uint8.as_datatype_enum, tensor_shape=shape, int_val=[128]
        )
        yield "serving_images", {"images": images}
    for size in PHOTOGRAPHS:
        file = _jpeg(np.full((*size, 3), 128, "uint8"))
        yield "serving_bytes", {"image_bytes": tf.make_tensor_proto([file])}


def _jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()
