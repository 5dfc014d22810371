"""Exported detectors with convolutions in int8, their ranges taken from a calibration set.

Convolutions are nearly all of the weights and of the work. What decodes boxes stays in floating
point: eight bits for pixel coordinates would move every box.
"""

import itertools

import numpy as np


def calibration_images(calibration, limit):
    """The first `limit` batches of a dataset, or of arrays (B, H, W, 3), as float32 arrays."""
    batches = []
    for batch in itertools.islice(iter(calibration), limit):
        images = batch["images"] if isinstance(batch, dict) else batch
        images = images[0] if isinstance(images, (tuple, list)) else images
        batches.append(np.asarray(images, "float32"))
    if not batches:
        raise ValueError("The calibration set is empty.")
    return batches


def quantize_onnx(source, target, batches):
    """Writes `source` (.onnx) with weights and inputs of convolutions in int8 to `target`."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = iter(batches)

        def get_next(self):
            images = next(self.batches, None)
            return None if images is None else {"images": images}

    quantization.quantize_static(
        source, target, Reader(), op_types_to_quantize=["Conv"], per_channel=True
    )


def quantize_openvino(source, target, batches):
    """Writes `source` (.xml) with weights and inputs of convolutions in int8 to `target`."""
    import nncf
    import openvino

    nncf.set_log_level("ERROR")
    network = openvino.Core().read_model(source)
    kept = {node.get_type_name() for node in network.get_ops()} - {"Convolution"}
    quantized = nncf.quantize(
        network,
        nncf.Dataset(batches),
        subset_size=len(batches),
        ignored_scope=nncf.IgnoredScope(types=sorted(kept)),
    )
    quantized.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])
    openvino.save_model(quantized, target)
