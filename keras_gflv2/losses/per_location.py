"""Any loss in, one value per location out, in the units of the losses of the paper."""

import keras
from keras import ops

# Keras's losses that take a mean over the last axis: the classes, or the coordinates of a box.
MEANS = (
    keras.losses.binary_crossentropy,
    keras.losses.binary_focal_crossentropy,
    keras.losses.hinge,
    keras.losses.huber,
    keras.losses.log_cosh,
    keras.losses.mean_absolute_error,
    keras.losses.mean_absolute_percentage_error,
    keras.losses.mean_squared_error,
    keras.losses.mean_squared_logarithmic_error,
    keras.losses.poisson,
    keras.losses.squared_hinge,
)


def per_location(loss, y_true, y_pred, name="loss"):
    """Values (B, A) of a loss, whose own reduction over the batch is not used.

    The losses of the paper sum over the classes, and over the sides of a box. So do others here:
    values of single classes or coordinates (B, A, C) are summed, and of Keras's losses that take a
    mean over them the sum is taken.

    Args:
        loss: a `keras.losses.Loss`, or a function of targets and predictions.
        y_true, y_pred: its arguments.
        name: of the loss, for the message.

    Raises:
        ValueError: it gives less than one value per location.
    """
    values = ops.convert_to_tensor(getattr(loss, "call", loss)(y_true, y_pred))
    locations, rank = ops.shape(y_pred)[:2], len(values.shape)
    shape = tuple(values.shape)
    if rank not in (2, 3) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, locations)
    ):
        raise ValueError(
            f"`{name}` must give one value per location (batch, locations), or one per class or "
            f"coordinate, before any reduction; got the shape {shape} for predictions of the shape "
            f"{tuple(y_pred.shape)}. Leave out means and sums over the batch or the locations."
        )
    if rank == 3:
        return ops.sum(values, axis=-1)
    is_mean = any(getattr(loss, "fn", loss) is mean for mean in MEANS)
    return values * y_pred.shape[-1] if is_mean else values
