"""The page that a detector has on a hub: what it finds, how well, and how to load it."""

import json

from keras_gflv2.annotations import Detector

# Of `evaluation.coco.METRIC_NAMES`, with what they are.
METRICS = {
    "AP": "IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, below 32 x 32 pixels",
    "APm": "medium objects",
    "APl": "large objects, above 96 x 96 pixels",
    "AR100": "recall with 100 detections",
}


def model_card(
    detector: Detector,
    name: str,
    source: str,
    *,
    license: str | None = None,
    data: dict | None = None,
    metrics: dict | None = None,
    training: dict | None = None,
) -> str:
    """A model card in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        detector: the model.
        name: its title.
        source: what `from_preset` takes to load it.
        license: identifier such as "apache-2.0"; None says that none was stated.
        data: {split: {"source": str, "images": int or None, "boxes": {class: count} or None}}.
        metrics: {name: value} of COCO metrics on validation data, as `evaluate_coco` returns them;
            -1 for one without objects.
        training: {what: value} of how it was trained.

    Returns:
        The text.
    """
    kind = type(detector).__name__
    parts = [
        _header(kind, license, metrics),
        f"# {name}\n\n{_what(detector, kind)}",
        f"## Use\n\n```python\nimport keras_gflv2\n\n"
        f'model = keras_gflv2.{kind}.from_preset("{source}")\n'
        'detections = model.detect("photo.jpg", score_threshold=0.3)\n```\n\n'
        "It runs on TensorFlow, JAX and PyTorch; "
        f"`keras-gflv2 predict photo.jpg --model {source} --output found` draws what it finds.",
    ]
    if data:
        parts.append(f"## Data\n\n{_data_table(data)}")
    if metrics:
        parts.append(f"## Results on the validation data\n\n{_metrics_table(metrics)}")
    if training:
        rows = [(key, f"`{value}`") for key, value in training.items()]
        parts.append(f"## Training\n\n{_table(('what', 'value'), rows)}")
    parts.append(
        "## License\n\n"
        + (f"{license}" if license else "None was stated. Ask the authors before you use it.")
    )
    return "\n\n".join(parts) + "\n"


def add_pictures(card, names):
    """The card with pictures that lie beside it, before its license."""
    titles = {"curves.png": "How the training went", "detections.png": "Detections"}
    shown = "\n\n".join(f"## {titles[name]}\n\n![{titles[name]}]({name})" for name in names)
    return card.replace("## License", f"{shown}\n\n## License", 1) if names else card


def _header(kind, license, metrics):
    """YAML between lines of dashes; JSON is YAML, and needs no library."""
    values = {
        "library_name": "keras",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "keras", "keras-gflv2", kind.lower()],
    }
    if license:
        values["license"] = license
    if metrics:
        values["metrics"] = ["mean_average_precision"]
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _what(detector, kind):
    classes = detector.class_names
    names = f": {', '.join(map(str, classes))}" if classes else ""
    short, long = detector.image_size
    return (
        f"{kind}, a dense object detector of keras_gflv2, with {detector.count_params():,} "
        f"parameters and the backbone {type(detector.backbone).__name__}. It finds "
        f"{detector.num_classes} classes{names}. Images are resized until their short side is "
        f"{short} pixels or their long side {long}."
    )


def _data_table(data):
    classes = list(dict.fromkeys(c for split in data.values() for c in split.get("boxes") or ()))
    rows = []
    for name, split in data.items():
        boxes = split.get("boxes") or {}
        images = "unknown" if split.get("images") is None else split["images"]
        rows.append((name, f"`{split['source']}`", images, *(boxes.get(c, "") for c in classes)))
    return _table(("split", "source", "images", *(f"boxes of {c}" for c in classes)), rows)


def _metrics_table(metrics):
    known = [(name, metrics.get(name, -1), what) for name, what in METRICS.items()]
    classes = [("AP", ap, f"{name} alone") for name, ap in metrics.get("per_class", {}).items()]
    rows = [(name, f"{value:.4f}", of) for name, value, of in known + classes if value >= 0]
    return _table(("COCO metric", "value", "of"), rows)


def _table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")
