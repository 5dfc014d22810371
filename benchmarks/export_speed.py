"""The exported graph against `predict`, in turn, on one image.

    python benchmarks/export_speed.py --preset r50_coco --size 800 1344

Weights are fresh: speed does not depend on them (but for the number of NMS candidates, which is the
same on both sides). Appends a row to benchmarks/export_speed.csv.
"""

import argparse
import datetime
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from serving_load import append

import keras_gflv2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="r50_coco")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344))
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()

    model = keras_gflv2.GFLV2.from_preset(arguments.preset, load_weights=False)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (1, *arguments.size, 3)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        directory = keras_gflv2.serving.export_saved_model(model, Path(folder) / "model" / "1")
        exported = tf.saved_model.load(directory).signatures["serving_images_float"]
        runs = {
            "predict": lambda: model.predict_on_batch(images),
            "exported": lambda: exported(images=tf.constant(images))["boxes"].numpy(),
        }
        seconds = {name: [] for name in runs}
        for round_ in range(arguments.rounds + 2):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if round_ >= 2:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    row = {
        "date": datetime.date.today().isoformat(),
        "versions": f"keras {keras.__version__}, tensorflow {tf.__version__}",
        "preset": arguments.preset,
        "size": "x".join(map(str, arguments.size)),
        "rounds": arguments.rounds,
        "predict_seconds": round(medians["predict"], 3),
        "exported_seconds": round(medians["exported"], 3),
        "exported_over_predict": round(medians["exported"] / medians["predict"], 3),
    }
    append(Path(__file__).parent / "export_speed.csv", row)


if __name__ == "__main__":
    main()
