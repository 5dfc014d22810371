"""AP of trained detectors with and without test-time augmentation, as rows of a CSV file.

python examples/measure_tta.py --data-dir BCCD --output finetune_bccd.csv runs/finetune/*/preset
"""

import argparse
import csv
import datetime
from pathlib import Path

import keras

import keras_gflv2
from keras_gflv2.postprocessing import TestTimeAugmentation

VIEWS = {
    "none": None,
    "flip": {"scales": (1.0,)},
    "flip, 3 scales": {"scales": (0.75, 1.0, 1.25)},
    "flip, 3 scales, voting": {"scales": (0.75, 1.0, 1.25), "box_voting": True},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, help="folders of presets")
    parser.add_argument("--data-dir", required=True, help="Pascal VOC folder with a split val")
    parser.add_argument("--output", required=True, help="CSV file to write")
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.models:
        model = keras_gflv2.GFLV2.from_preset(str(folder))
        val_ds = keras_gflv2.data.load_voc(
            arguments.data_dir, "val", batch_size=8, image_size=model.image_size
        )
        for views, options in VIEWS.items():
            detector = model if options is None else TestTimeAugmentation(model, **options)
            metrics = keras_gflv2.evaluation.evaluate_coco(detector, val_ds, verbose=0)
            run = {"run": folder.parent.name, "test_time_augmentation": views}
            versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
            scores = {name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")}
            rows.append({**run, **scores, **versions, "date": datetime.date.today().isoformat()})
            print(rows[-1], flush=True)
    with open(arguments.output, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
