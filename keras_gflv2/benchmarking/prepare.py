"""The detector that all subjects of a benchmark share: a preset or file in, files out.

Runs in a process of its own, on TensorFlow: `python -m keras_gflv2.benchmarking.prepare JSON`.
"""

import json
import sys
from pathlib import Path

import numpy as np

# Candidates of NMS that a photo of COCO has, in the order of magnitude.
CANDIDATES = 500
# Standard deviation of class logits: that of fresh weights is nearly 0, and all scores alike.
LOGIT_SPREAD = 1.5
MODEL_FILE = "model.keras"
INFO_FILE = "info.json"
EXPORTS = {
    "saved_model": "saved_model/1",
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "litert": "model.tflite",
}


def prepare(model, folder, sizes, formats=(), fresh=False, image=None):
    """Writes model.keras, the exports, the images and info.json to a folder.

    Args:
        model: a preset's name or folder, or a .keras file.
        folder: where to write.
        sizes: list of (height, width) of images; LiteRT has a file for each.
        formats: of `EXPORTS`.
        fresh: whether a preset gets fresh weights, which takes no download. Its scores are spread
            so that NMS has `CANDIDATES` candidates.
        image: a file, resized to each size; None for noise.
    """
    import keras

    import keras_gflv2
    from keras_gflv2.benchmarking.operations import count_operations
    from keras_gflv2.checkpoints.keras_files import load_keras_file

    folder = Path(folder)
    for size in sizes:
        np.save(folder / images_file(size), image_of_size(image, size)[None])
    if model.endswith(".keras"):
        detector = load_keras_file(model)
    else:
        detector = keras_gflv2.DenseDetector.from_preset(model, load_weights=not fresh)
    if fresh:
        spread_scores(detector, prepared_images(folder, sizes[0]))
    detector.save(folder / MODEL_FILE)
    info = {"operations": {}, "candidates": {}, "parameters": detector.count_params()}
    threshold = detector.prediction_decoder.score_threshold
    for height, width in sizes:
        name = f"{height}x{width}"
        scores = detector(prepared_images(folder, (height, width)))["scores"]
        found = keras.ops.convert_to_numpy(scores) > threshold
        info["candidates"][name] = int(found.sum())
        info["operations"][name] = count_operations(detector, height, width)
    for format in formats:
        for size in sizes if format == "litert" else sizes[:1]:
            export(detector, folder / export_file(format, *size), format, size)
    (folder / INFO_FILE).write_text(json.dumps(info))


def export(detector, file, format, size):
    from keras_gflv2.serving import export_format, export_saved_model

    if format == "saved_model":
        export_saved_model(detector, file)
    else:
        export_format(detector, file, format, size=size if format == "litert" else None)


def export_file(format, height, width):
    """Where an export is, relative to the folder; LiteRT's are of one size each."""
    prefix = f"{height}x{width}/" if format == "litert" else ""
    return prefix + EXPORTS[format]


def images_file(size):
    return f"images_{size[0]}x{size[1]}.npy"


def prepared_images(folder, size, batch=1):
    """The image of this size as often as a batch wants it: (B, H, W, 3) float32."""
    image = np.load(Path(folder) / images_file(size))
    return np.repeat(image, batch, axis=0)


def image_of_size(file, size):
    """A picture, or noise, as (H, W, 3) float32 in 0..255."""
    if file is None:
        return np.random.default_rng(0).uniform(0, 255, (*size, 3)).astype("float32")
    from PIL import Image

    from keras_gflv2.images import read_image

    return np.asarray(Image.fromarray(read_image(file)).resize(size[::-1]), "float32")


def spread_scores(detector, images):
    """Makes the scores of fresh weights as various as those of a trained detector.

    Scales the last convolution of the classes and shifts its bias, so that about `CANDIDATES` pairs
    of location and class are above the threshold.
    """
    import keras

    conv = detector.head.classification_conv

    def logits():
        scores = keras.ops.convert_to_numpy(detector(images)["scores"])
        # Of the product with a quality too: a factor that all classes of a location share.
        return np.log(np.clip(scores, 1e-7, 1 - 1e-7) / (1 - np.clip(scores, 1e-7, 1 - 1e-7)))

    conv.kernel.assign(conv.kernel * (LOGIT_SPREAD / max(float(logits().std()), 1e-6)))
    threshold = detector.prediction_decoder.score_threshold
    wanted = np.log(threshold / (1 - threshold))
    for _ in range(3):  # the factor of the quality makes it not quite linear
        found = np.sort(logits(), axis=None)
        conv.bias.assign(conv.bias + (wanted - found[-min(CANDIDATES, found.size)]))


if __name__ == "__main__":
    prepare(**json.loads(sys.argv[1]))
