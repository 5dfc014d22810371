"""A detector's detections beside the truth, for the first images of a dataset."""

from PIL import Image

from keras_gflv2.annotations import Dataset, Detector
from keras_gflv2.visualization.drawing import draw_gallery


def draw_validation(model: Detector, dataset: Dataset, count: int = 8) -> Image.Image:
    """Draws the first images of a dataset, ground truth left of what the model detects.

    Args:
        model: a dense detector.
        dataset: as in `evaluate_coco`. Boxes are in its `bounding_box_format`, else the model's.
        count: at most so many images, of the first batches.

    Returns:
        A PIL image, RGB.
    """
    # Imported here: drawing alone needs no Keras.
    from keras_gflv2.batches import batches_of, to_xyxy
    from keras_gflv2.contract import class_names_of

    source = getattr(dataset, "bounding_box_format", None)
    source = source or getattr(model, "bounding_box_format", "xyxy")
    images, truth = [], []
    for batch in batches_of(dataset)[0]:
        canvas = batch["images"].shape[1:3]
        sizes = batch.get("image_sizes", [canvas] * len(batch["images"]))
        images += [image[: int(h), : int(w)] for image, (h, w) in zip(batch["images"], sizes)]
        batch["boxes"] = to_xyxy(batch["boxes"], source, *canvas)
        keys = [key for key in ("boxes", "classes", "ignored") if key in batch]
        truth += [{key: batch[key][row] for key in keys} for row in range(len(sizes))]
        if len(images) >= count:
            break
    images, truth = images[:count], truth[:count]
    return draw_gallery(images, model.detect(images), truth, class_names_of(model, dataset))
