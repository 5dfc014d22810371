"""Operations of a network: a Keras model and the size of its input in, a number out."""

import contextlib
import math

import keras
from keras.src import backend


def count_operations(model, height, width, batch=1):
    """Floating-point operations of the convolutions and dense layers of a model.

    A multiplication and an addition count as two. Everything else (normalization, activations,
    additions, resampling) is left out; it is memory traffic more than computation.

    Args:
        model: a built Keras model of images, whose layers may call others.
        height, width: size of the images.
        batch: number of images.

    Returns:
        The number, an int.

    >>> model = keras_gflv2.GFLV2.from_preset("r50_coco", load_weights=False)
    >>> count_operations(model, 800, 1344) / 1e9    # 436.2
    """
    counts = []

    def call(images):
        counts.clear()  # PyTorch tries it once without memory, and again if that fails
        return model(images)

    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers():
            if hasattr(layer, "kernel"):
                stack.enter_context(_counted(layer, counts))
        # Shapes only: nothing is computed.
        backend.compute_output_spec(call, keras.KerasTensor((batch, height, width, 3)))
    return 2 * sum(counts)


@contextlib.contextmanager
def _counted(layer, counts):
    """Has a layer note its multiplications whenever it is called."""
    call = layer.call

    def noting(*args, **kwargs):
        outputs = call(*args, **kwargs)
        is_first = getattr(layer, "data_format", None) == "channels_first"
        channels = outputs.shape[1 if is_first else -1]
        # Each number of the output takes as many as the kernel has numbers for its channel.
        counts.append(math.prod(outputs.shape) // channels * math.prod(layer.kernel.shape))
        return outputs

    object.__setattr__(layer, "call", noting)  # past Keras, which tracks attributes
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
