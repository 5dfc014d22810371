"""What is timed: a description in, functions out that each run one part and wait for its result.

A subject is a function of its arguments and of `lap`, which it calls with "import" and "build" when
these are done; it returns {part: function}.
"""

from pathlib import Path

from keras_gflv2.benchmarking.prepare import (
    EXPORTS,
    MODEL_FILE,
    export_file,
    image_of_size,
    prepared_images,
)

NETWORK, DECODING, END_TO_END = "network", "decoding and NMS", "end to end"
PREDICT, TRAINING, CONVOLUTION = "predict", "training step", "convolution"
# Channels and size of the map of the convolution that the machine's rate is measured with.
CONV_CHANNELS, CONV_SIZE, CONV_TIMES = 256, (100, 168), 4
CONV_OPERATIONS = CONV_TIMES * 2 * 9 * CONV_CHANNELS**2 * CONV_SIZE[0] * CONV_SIZE[1]


def detector(lap, folder, size, batch=1, boxes=20, jit_compile="auto", noise=False):
    """A detector of this package on the backend of the process.

    Args:
        lap: see above.
        folder: that `prepare` wrote.
        size, batch: of the images.
        boxes: of each image in the training step, padding included.
        jit_compile: as of `compile`; True compiles with torch.compile on PyTorch.
        noise: whether the images are noise instead of those of `prepare`.
    """
    import keras

    import keras_gflv2  # noqa: F401 its classes

    lap("import")
    model = keras.saving.load_model(Path(folder) / MODEL_FILE)
    if not model.compiled or jit_compile != "auto":
        model.compile(jit_compile=jit_compile)
    lap("build")
    if noise:
        images = image_of_size(None, (batch * size[0], size[1])).reshape(batch, *size, 3)
    else:
        images = prepared_images(folder, size, batch)
    targets = random_targets(batch, *size, boxes, model.num_classes)
    # What needs more than the images is made when it is first asked for.
    return {
        END_TO_END: lambda: model.predict_on_batch(images),
        PREDICT: lambda: model.predict(images, batch_size=batch, verbose=0),
        NETWORK: first_time(lambda: _network(model, images)),
        DECODING: first_time(lambda: decoding(model, images, network_outputs(model, images))),
        TRAINING: lambda: model.train_on_batch(images, targets),
        CONVOLUTION: first_time(_convolution),
    }


def exported(lap, folder, format, size, batch=1):
    """An exported file in its runtime, images in, detections out."""
    file = str(Path(folder) / export_file(format, *size))
    run = {"saved_model": _saved_model, "onnx": _onnx, "openvino": _openvino, "litert": _litert}
    assert set(run) == set(EXPORTS)
    run = run[format](lap, file)
    images = prepared_images(folder, size, batch)
    return {END_TO_END: lambda: run(images)}


def random_targets(batch, height, width, boxes, num_classes, seed=1):
    """Bounding boxes of a batch, xyxy; none is padding."""
    import numpy as np

    rng = np.random.default_rng(seed)
    limits = np.array([width, height])
    corner = rng.uniform(0, 0.7, (batch, boxes, 2)) * limits
    extent = rng.uniform(0.05, 0.3, (batch, boxes, 2)) * limits
    return {
        "boxes": np.concatenate([corner, corner + extent], -1).astype("float32"),
        "classes": rng.integers(0, num_classes, (batch, boxes)).astype("int32"),
    }


def first_time(make):
    """A function that `make` makes when it is first called."""
    made = []

    def run():
        if not made:
            made.append(make())
        return made[0]()

    return run


# === Parts of a detector ===


def _network(model, images):
    run = compiled(lambda images: model(images, training=False), model)
    images = tensor(images)
    return lambda: run(images)


def network_outputs(model, images):
    """What calling the model returns, as tensors."""
    return compiled(lambda images: model(images, training=False), model)(tensor(images))


def decoding(model, images, outputs):
    """Function that makes detections of outputs, which are of images of this size."""
    run = compiled(lambda outputs: model.decode_predictions(outputs, images), model)
    return lambda: run(outputs)


def _convolution():
    """Some convolutions of a typical size, one after another."""
    import numpy as np
    from keras import ops

    rng = np.random.default_rng(0)
    kernel = tensor(rng.normal(0, 0.02, (3, 3, CONV_CHANNELS, CONV_CHANNELS)).astype("float32"))
    maps = tensor(rng.normal(size=(1, *CONV_SIZE, CONV_CHANNELS)).astype("float32"))

    def convolve(maps, kernel):
        for _ in range(CONV_TIMES):
            maps = ops.conv(maps, kernel, padding="same", data_format="channels_last")
        return maps

    run = compiled(convolve)
    return lambda: run(maps, kernel)


def tensor(array):
    import keras

    return keras.ops.convert_to_tensor(array)


def compiled(function, model=None):
    """A function of tensors as `predict` would run it, which waits until all is computed."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=bool(model and model.jit_compile))
    if backend == "jax":
        return _jitted(function, model)
    import torch

    if model and model.jit_compile:
        function = torch.compile(function)
    return torch.no_grad()(function)


def _jitted(function, model):
    """With the weights as an argument: as constants XLA would fold what is computed from them."""
    import jax
    import keras

    variables = model.variables if model else []

    def stateless(values, *arguments):
        with keras.StatelessScope(state_mapping=zip(variables, values)):
            return function(*arguments)

    step = jax.jit(stateless)

    def run(*arguments):
        return jax.block_until_ready(step([variable.value for variable in variables], *arguments))

    return run


# === Runtimes ===


def _saved_model(lap, file):
    import tensorflow as tf

    lap("import")
    loaded = tf.saved_model.load(file)
    function = loaded.signatures["serving_images_float"]
    lap("build")
    # `loaded` stays: its variables live as long as it does.
    return lambda images, loaded=loaded: function(images=tf.constant(images))["boxes"].numpy()


def _onnx(lap, file):
    import onnxruntime

    lap("import")
    session = onnxruntime.InferenceSession(file)
    lap("build")
    return lambda images: session.run(None, {"images": images})


def _openvino(lap, file):
    import openvino

    lap("import")
    # `serving.formats.OPENVINO_FLOAT32`, whose module would import Keras.
    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    lap("build")
    return lambda images: compiled(images)


def _litert(lap, file):
    import os

    from ai_edge_litert.interpreter import Interpreter

    lap("import")
    interpreter = Interpreter(file, num_threads=len(os.sched_getaffinity(0)))
    run = interpreter.get_signature_runner("serving_default")
    lap("build")
    return lambda images: run(images=images)
