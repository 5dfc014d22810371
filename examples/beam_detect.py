r"""Finds objects in any number of images with Apache Beam: here, on Dataflow, Flink or Spark.

    keras-gflv2 export --model my_run --output exported/cells/1
    pip install apache-beam tensorflow
    python examples/beam_detect.py --images 'photos/**.jpg' --model exported/cells/1 \
        --output found/part

One line of JSON per image: its path and its detections, boxes as x, y, width and height in its own
pixels; images that cannot be read go to OUTPUT-errors, with the reason. The exported SavedModel
decodes the files and needs neither Keras nor this package, and so do the workers: they need
apache-beam and tensorflow alone.

All other arguments are Beam's. The same pipeline elsewhere, with images and the export in a bucket:

    python examples/beam_detect.py --images 'gs://BUCKET/photos/**.jpg' \
        --model gs://BUCKET/cells/1 --output gs://BUCKET/found/part \
        --runner DataflowRunner --project PROJECT --region REGION \
        --temp_location gs://BUCKET/temp --requirements_file examples/beam_requirements.txt
    ... --runner FlinkRunner --flink_master HOST:8081
    ... --runner SparkRunner --spark_master_url spark://HOST:7077
"""

import argparse
import json

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

SIGNATURE = "serving_bytes"
SIDES = ("boxes", "uncertainties")


class DetectorHandler(ModelHandler):
    """Runs the exported detector on batches of encoded images.

    Args:
        directory: the SavedModel; on any file system that TensorFlow knows.
        batch_size: the most images of a call. They are of any sizes.
    """

    def __init__(self, directory, batch_size=8):
        super().__init__(max_batch_size=batch_size)
        self._directory = directory

    def load_model(self):
        import tensorflow as tf  # on the worker

        return tf.saved_model.load(self._directory)

    def run_inference(self, batch, model, inference_args=None):
        import tensorflow as tf

        found = model.signatures[SIGNATURE](image_bytes=tf.constant(list(batch)))
        found = {name: value.numpy() for name, value in found.items()}
        return [{name: value[row] for name, value in found.items()} for row in range(len(batch))]


def to_record(keyed, score_threshold):
    """The record of one image: (path, outputs of the export) -> a dictionary of plain numbers."""
    path, found = keyed
    status = found["status"].decode()
    if status != "ok":
        return {"file_name": path, "error": status}
    detections = []
    for row in np.flatnonzero(found["confidence"] > score_threshold):
        left, top, right, bottom = found["boxes"][row].tolist()
        detection = {
            "category_id": int(found["classes"][row]) + 1,
            "category_name": found["class_names"][row].decode(),
            "bbox": [left, top, right - left, bottom - top],
            "score": float(found["confidence"][row]),
        }
        if "uncertainties" in found:  # of detectors with distributions
            detection["uncertainties"] = found["uncertainties"][row].tolist()
        detections.append(detection)
    return {"file_name": path, "detections": detections}


def run(argv=None):
    """Builds the pipeline and waits for its end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="a pattern, on any file system of Beam's")
    parser.add_argument("--model", required=True, help="a SavedModel of keras-gflv2 export")
    parser.add_argument("--output", required=True, help="beginning of the files that are written")
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments, of_beam = parser.parse_known_args(argv)
    threshold, output = arguments.score_threshold, arguments.output
    with beam.Pipeline(options=PipelineOptions(of_beam)) as pipeline:
        records = (
            pipeline
            | "Find files" >> fileio.MatchFiles(arguments.images)
            # So that files are spread over the workers, not only patterns.
            | "Spread" >> beam.Reshuffle()
            | "Read" >> fileio.ReadMatches()
            | "Bytes" >> beam.Map(lambda file: (file.metadata.path, file.read()))
            | "Detect"
            >> RunInference(
                KeyedModelHandler(DetectorHandler(arguments.model, arguments.batch_size))
            )
            | "Record" >> beam.Map(to_record, threshold)
        )
        for name, is_error in (("", False), ("-errors", True)):
            chosen = records | f"Choose{name}" >> beam.Filter(
                lambda record, wanted=is_error: ("error" in record) == wanted
            )
            lines = chosen | f"JSON{name}" >> beam.Map(json.dumps)
            _ = lines | f"Write{name}" >> beam.io.WriteToText(output + name, ".jsonl")
    print(f"Wrote {output}-*.jsonl")


if __name__ == "__main__":
    run()
