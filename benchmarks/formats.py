"""AP, time and size of nano_bccd in every exported format, on BCCD's validation split.

    python benchmarks/formats.py --data voc:BCCD:val --calibration voc:BCCD:train --folder /tmp/a

Every image is resized to 240 x 320, one per batch. Times are medians of one image from pixels to
detections; `network_milliseconds` is TensorFlow's graph of the network alone, without decoding, in
turn with each. Prints and appends rows to benchmarks/formats.csv.
"""

import argparse
import datetime
import importlib.metadata
import os
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from serving_load import append

import keras_gflv2
from keras_gflv2.cli.sources import load_data
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.coco import coco_metrics
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.serving.formats import FORMATS, export_format, load_openvino

SIZE = (240, 320)
PADDED = (256, 320)  # as the loader pads batches
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}


class Exported:
    """A file in its runtime, with what an evaluation needs of a model."""

    def __init__(self, model, run):
        self.num_classes, self.class_names = model.num_classes, model.class_names
        self.bounding_box_format, self.run = model.bounding_box_format, run

    def predict_on_batch(self, batch):
        images = batch["images"] if isinstance(batch, dict) else batch
        return self.run(np.asarray(images, "float32"))


def runner(file, format):
    """Function from images (1, H, W, 3) to the dictionary of detections."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(names, session.run(None, {"images": images})))
    if format == "openvino":
        compiled = load_openvino(file)
        return lambda images: {o.get_any_name(): v for o, v in compiled(images).items()}
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(file, num_threads=os.cpu_count()).get_signature_runner("serving_default")
    return lambda images: run(images=images)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--calibration", required=True, help="100 images of it, for int8")
    parser.add_argument("--folder", type=Path, required=True, help="of the files; they are reused")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()

    model = keras_gflv2.GFLV2.from_preset("nano_bccd")
    kinds = [(format, p) for format, (_, precisions, _) in FORMATS.items() for p in precisions]
    files = {kind: export(model, *kind, arguments) for kind in kinds}
    if arguments.export_only:
        return
    names = model.class_names
    dataset = load_data(arguments.data, batch_size=1, image_size=SIZE, class_names=names)
    model.run = model.predict_on_batch
    network = tf.function(lambda images: model(images, training=False))
    measure(model, network, dataset, "keras", "float32", "keras", 0)
    for (format, precision), file in files.items():
        total = sum(written.stat().st_size for written in file.parent.iterdir())
        exported = Exported(model, runner(str(file), format))
        measure(exported, network, dataset, format, precision, PACKAGES[format], total)


def export(model, format, precision, arguments):
    """The file of a format and precision, written if it does not exist."""
    file = arguments.folder / format / precision / f"detector{FORMATS[format][0]}"
    options = {"precision": precision}
    if format == "litert":
        options["size"] = PADDED
    elif precision == "int8":
        options["calibration"] = load_data(arguments.calibration, batch_size=1, image_size=SIZE)
    if not file.exists():
        export_format(model, file, format, **options)
    return file


def milliseconds(run, network, images, rounds=40):
    """Median times of a function and of TensorFlow's network, in turn."""
    tensor, times = tf.constant(images), {"run": [], "network": []}
    calls = {"run": lambda: run(images), "network": lambda: network(tensor)["scores"].numpy()}
    for round_ in range(rounds + 3):
        for name, call in calls.items():
            time.sleep(0.02)  # threads of the other runtime spin for a while
            call()
            start = time.perf_counter()
            call()
            if round_ >= 3:
                times[name].append(1000 * (time.perf_counter() - start))
    return [float(np.median(times[name])) for name in ("run", "network")]


def measure(model, network, dataset, format, precision, package, size):
    images = np.asarray(next(iter(dataset))["images"], "float32")
    run_time, network_time = milliseconds(model.run, network, images)
    metrics = coco_metrics(
        detect_dataset(model, dataset, verbose=0), class_names_of(model, dataset)
    )
    row = {
        "date": datetime.date.today().isoformat(),
        "format": format,
        "precision": precision,
        "runtime": f"{package} {importlib.metadata.version(package)}",
        "megabytes": round(size / 1e6, 2),
        "AP": round(float(metrics["AP"]), 4),
        "AP50": round(float(metrics["AP50"]), 4),
        "milliseconds": round(run_time, 2),
        "network_milliseconds": round(network_time, 2),
        "over_network": round(run_time / network_time, 3),
    }
    append(Path(__file__).parent / "formats.csv", row)


if __name__ == "__main__":
    main()
