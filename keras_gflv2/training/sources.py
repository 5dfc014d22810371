"""What kind of data `fit` was given, and how much of it there is, without drawing a batch."""

import keras

from keras_gflv2.contract import unpack

KERAS_BATCH_SIZE = 32  # Keras's own, of arrays without `batch_size`


def is_tf_dataset(x):
    """Whether it is a `tf.data.Dataset`, without importing TensorFlow."""
    return hasattr(x, "element_spec") and hasattr(x, "map") and hasattr(x, "filter")


def is_data_loader(x):
    """Whether it is a `torch.utils.data.DataLoader`, without importing PyTorch."""
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(x).__mro__}
    return "torch.utils.data.dataloader.DataLoader" in names


def training_size(x, y, arguments):
    """How much `fit` trains on: (images per step, steps per epoch), None for what it cannot know.

    Args:
        x, y: as in `fit`.
        arguments: those of `fit`: "batch_size", "steps_per_epoch", "validation_split".
    """
    steps = arguments.get("steps_per_epoch")
    if y is not None or isinstance(x, dict):
        images = len(unpack((x, y), need_targets=True)[0])
        images = int(images * (1 - (arguments.get("validation_split") or 0.0)))
        batch_size = min(arguments.get("batch_size") or KERAS_BATCH_SIZE, max(images, 1))
        return batch_size, steps or -(-images // batch_size)
    if steps is None:
        steps = getattr(x, "num_batches", None)
    try:
        steps = steps or len(x)
    except TypeError:
        pass
    return _images_per_batch(x), steps


def _images_per_batch(x):
    """Images per batch, without drawing one; None where the source does not say."""
    if isinstance(x, keras.utils.PyDataset):  # whose batches can be had in any order
        return len(unpack(x[0])[0])
    if is_data_loader(x):
        return x.batch_size
    if not is_tf_dataset(x):
        return None
    images = keras.tree.flatten(unpack(x.element_spec)[0])[0]
    waiting = [x]
    if images.shape.rank and images.shape[0]:
        return images.shape[0]
    while waiting:
        # A last batch that may be smaller hides the size from the shape.
        dataset = waiting.pop()
        size = getattr(dataset, "_batch_size", None)
        if size is not None:
            return int(size)
        waiting += dataset._inputs()
    return None
