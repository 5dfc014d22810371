"""What `speed.py` compares beside the command's subjects: other code, and series for its plots.

Each is a function as in `keras_gflv2.benchmarking.subjects`.
"""

import numpy as np

from keras_gflv2.benchmarking import prepare, subjects

# Photos of different sizes, as a folder of them has.
PHOTO_SIZES = [(200 + 13 * i, 320 - 7 * i) for i in range(11)]
PHOTO_SIZES += [(width, height) for height, width in PHOTO_SIZES]


# === Other code ===


def plain_pytorch(lap, folder, size, batch=1, compiled=False):
    """GFLV2 in plain PyTorch; `compiled` has torch.compile make its network."""
    import plain_pytorch as plain
    import torch

    lap("import")
    model = plain.build()
    images = torch.from_numpy(prepare.prepared_images(folder, size, batch))
    _spread_scores(plain, model, images)
    if compiled:
        model = torch.compile(model)
    lap("build")
    return {
        subjects.END_TO_END: lambda: plain.detect(model, images),
        subjects.NETWORK: lambda: plain.network(model, images),
    }


def plain_pytorch_training(lap, size, batch, boxes):
    import plain_pytorch as plain
    import torch

    lap("import")
    model = plain.build()
    optimizer = plain.make_optimizer(model, 1e-3)
    lap("build")
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(0, 255, (batch, *size, 3)).astype("float32"))
    targets = subjects.random_targets(batch, *size, boxes, 80)
    boxes = [torch.from_numpy(one) for one in targets["boxes"]]
    labels = [torch.from_numpy(one).long() for one in targets["classes"]]
    run = lambda: plain.train_step(model, optimizer, images, boxes, labels)  # noqa: E731
    return {subjects.TRAINING: run}


def _spread_scores(plain, model, images):
    """As `prepare.spread_scores` does it for ours."""
    import torch

    conv = model.bbox_head.gfl_cls

    def logits():
        scores = torch.cat(plain.network(model, images)[0], 1)
        return scores.clamp(1e-7, 1 - 1e-7).logit().flatten()

    with torch.no_grad():
        conv.weight.mul_(prepare.LOGIT_SPREAD / logits().std())
        for _ in range(3):
            found = logits().topk(prepare.CANDIDATES).values[-1]
            conv.bias.add_(torch.tensor(0.05).logit() - found)


def keras_hub_retinanet(lap, folder, size, batch=1):
    """KerasHub's RetinaNet with a ResNet-50, 80 classes, fresh weights."""
    import keras_hub

    lap("import")
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(None, None, 3),
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=encoder, min_level=3, max_level=7, use_p5=False
    )
    model = keras_hub.models.RetinaNetObjectDetector(
        backbone=backbone, num_classes=80, bounding_box_format="xyxy", preprocessor=None
    )
    lap("build")
    images = subjects.tensor(prepare.prepared_images(folder, size, batch))
    # Its `predict_on_batch` cannot unpack a batch without labels (0.32).
    run = subjects.compiled(lambda x: model.decode_predictions(model(x, training=False), x))
    return {subjects.END_TO_END: lambda: run(images)}


# === Photos of different sizes ===


def photos(lap, folder):
    """`detect` on photos of 22 sizes: the first call compiles for what it has not seen."""
    import keras

    import keras_gflv2  # noqa: F401 its classes

    lap("import")
    model = keras.saving.load_model(f"{folder}/{prepare.MODEL_FILE}")
    lap("build")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*size, 3), "uint8") for size in PHOTO_SIZES]
    return {
        "one photo": lambda: model.detect(images[0]),
        "22 photos": lambda: model.detect(images),
    }


# === Series for the plots ===


def pixels(lap, folder, sizes):
    """The whole way from images of each size to detections: parts "64x64", ..."""
    model = _loaded(lap, folder)
    parts = {}
    for height, width in sizes:
        image = np.random.default_rng(0).uniform(0, 255, (1, height, width, 3)).astype("float32")
        parts[f"{height}x{width}"] = lambda image=image: model.predict_on_batch(image)
    return parts


def boxes(lap, folder, counts, size, batch):
    """A training step with each number of boxes, padding included, of which 5 are objects."""
    model = _loaded(lap, folder)
    images = np.random.default_rng(0).uniform(0, 255, (batch, *size, 3)).astype("float32")
    parts = {}
    for count in counts:
        targets = subjects.random_targets(batch, *size, count, model.num_classes)
        targets["classes"][:, 5:] = -1
        parts[str(count)] = lambda targets=targets: model.train_on_batch(images, targets)
    return parts


def candidates(lap, folder, counts, size):
    """Decoding and NMS of images with each number of candidates above the threshold."""
    model = _loaded(lap, folder)
    return {
        str(count): subjects.first_time(lambda count=count: _decoding(model, size, count))
        for count in counts
    }


def locations(lap, folder, sizes, count):
    """Decoding and NMS of as many candidates among more and more locations."""
    model = _loaded(lap, folder)
    return {
        f"{height}x{width}": subjects.first_time(
            lambda size=(height, width): _decoding(model, size, count)
        )
        for height, width in sizes
    }


def _loaded(lap, folder):
    import keras

    import keras_gflv2  # noqa: F401 its classes

    lap("import")
    model = keras.saving.load_model(f"{folder}/{prepare.MODEL_FILE}")
    if not model.compiled:
        model.compile()
    lap("build")
    return model


def _decoding(model, size, count):
    """Runs decoding on outputs with random boxes, `count` of whose scores are high."""
    image = np.zeros((1, *size, 3), "float32")
    outputs = subjects.network_outputs(model, image)
    rng = np.random.default_rng(0)
    shape = tuple(outputs["scores"].shape)
    scores = np.full(np.prod(shape), 0.01, "float32")
    chosen = rng.choice(scores.size, count, replace=False)
    scores[chosen] = rng.uniform(0.06, 0.9, count)
    outputs = {**outputs, "scores": subjects.tensor(scores.reshape(shape))}
    return subjects.decoding(model, image, outputs)


def command_line(lap):
    """`keras-gflv2 --help` as a user waits for it."""
    import subprocess
    import sys

    lap("import")
    lap("build")
    command = [sys.executable, "-m", "keras_gflv2.cli", "--help"]
    return {"--help": lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)}
