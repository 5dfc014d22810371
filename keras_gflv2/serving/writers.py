"""The files of ONNX, OpenVINO and LiteRT, written in a process with TensorFlow."""

import contextlib
import tempfile
from pathlib import Path

import tensorflow as tf

from keras_gflv2.grid import padded
from keras_gflv2.postprocessing import tensorflow_nms
from keras_gflv2.serving.candidates import Candidates, after_nms, before_nms, has_standard_nms
from keras_gflv2.serving.folding import fold_batch_norm

ONNX_OPSET = 18
ANY_SIZE = (None, None, None, 3)


def write(model, file, format, precision, size):
    """Writes the file.

    Args:
        model: a dense detector on the backend TensorFlow.
        file, format, precision, size: see `formats.export_format`; int8 is for LiteRT only.
    """
    model = fold_batch_norm(model)
    if format == "litert":
        content = _litert(model, size or [padded(side) for side in model.image_size], precision)
        Path(file).write_bytes(content)
    elif format == "onnx":
        _write_onnx(model, file)
    else:
        _write_openvino(model, file, precision)


def _write_onnx(model, file):
    import onnx
    import tf2onnx

    from keras_gflv2.serving.onnx_group_norms import fuse_group_norms
    from keras_gflv2.serving.onnx_nms import append_nms, append_rest

    def converted(function):
        signature = function.input_signature
        return tf2onnx.convert.from_function(function, input_signature=signature, opset=ONNX_OPSET)[
            0
        ]

    if not has_standard_nms(model.prediction_decoder):
        written = fuse_group_norms(converted(_detections(model, ANY_SIZE)))
    else:
        function, nms, rest = _around_nms(model)
        written = append_nms(fuse_group_norms(converted(function)), **nms)
        written = append_rest(written, converted(rest), _names_of(model))
    onnx.save(written, file)


def _write_openvino(model, file, precision):
    import openvino

    from keras_gflv2.serving.openvino_group_norms import fuse_group_norms
    from keras_gflv2.serving.openvino_nms import append_nms, append_rest, ignore_order_of_equals

    has_nms = has_standard_nms(model.prediction_decoder)
    function, nms, rest = _around_nms(model) if has_nms else (_detections(model, ANY_SIZE), {}, {})
    with _saved(model, function) as folder:
        converted = openvino.convert_model(folder)
        fuse_group_norms(converted)
        ignore_order_of_equals(converted)
        if has_nms:
            converted = append_nms(converted, **nms)
            converted = append_rest(converted, openvino.convert_model(rest), _names_of(model))
        hint = "bf16" if precision == "bfloat16" else "f32"
        converted.set_rt_info(hint, ["runtime_options", "INFERENCE_PRECISION_HINT"])
        openvino.save_model(converted, file, compress_to_fp16=precision != "float32")


def _litert(model, size, precision):
    """Bytes of a LiteRT model with one signature, `serving_default`."""
    from keras_gflv2.serving.litert_nms import LiteRTDecoder

    decoder = model.prediction_decoder
    if has_standard_nms(decoder):
        model.prediction_decoder = LiteRTDecoder.from_config(decoder.get_config())
    with _saved(model, _detections(model, (1, *size, 3))) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=["serving_default"]
        )
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _around_nms(model):
    """What comes before NMS, the arguments of `append_nms`, and what comes after it.

    The two functions, of images and of arrays, are to convert.
    """
    decoder = model.prediction_decoder
    model.prediction_decoder = Candidates.from_config(decoder.get_config())
    arguments = {
        "num_classes": model.num_classes,
        "iou_threshold": decoder.nms_iou_threshold,
        "max_detections": decoder.max_detections,
    }
    first = tf.function(
        lambda images: before_nms(model, images),
        input_signature=[tf.TensorSpec(ANY_SIZE, tf.float32, "images")],
    )
    found = first.get_concrete_function().structured_outputs
    rows = (None, decoder.max_detections)
    kept = {
        "locations": tf.TensorSpec(rows, tf.int32),
        "classes": tf.TensorSpec(rows, tf.int32),
        "confidence": tf.TensorSpec(rows, tf.float32),
    }
    used = {**kept, **{n: found[n] for n in found if n not in ("scores", "corners")}}
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in used.items()]

    def rest(*values):
        values = dict(zip(used, values))
        return after_nms(model, {name: values.pop(name) for name in kept}, values)

    return first, arguments, tf.function(rest, input_signature=specs)


def _names_of(model):
    """The outputs of an exported detector, in order."""
    names = ["boxes", "classes", "confidence", "num_detections"]
    return [*names, "uncertainties"] if model.representation.has_spread else names


def _detections(model, shape):
    """What the decoder of a model makes of images of a shape."""

    def detections(images):
        with tensorflow_nms.forbidden():
            return model.decode_predictions(model(images, training=False), images)

    signature = [tf.TensorSpec(shape, tf.float32, "images")]
    return tf.function(detections, input_signature=signature)


@contextlib.contextmanager
def _saved(model, function):
    """Folder of a SavedModel with one signature, `serving_default`."""
    with tempfile.TemporaryDirectory() as folder:
        # A module of TensorFlow's own: Keras's ExportArchive writes every variable twice.
        module = tf.Module()
        module.weights = [variable.value for variable in model.variables]
        tf.saved_model.save(module, folder, {"serving_default": function})
        yield folder
