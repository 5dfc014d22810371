"""A map and positions between its cells in, what the map has there out."""

from keras import ops


def bilinear_samples(inputs, positions, mask=None):
    """Reads a map between its cells; outside of it is zero.

    Args:
        inputs: (B, H, W, C).
        positions: float32 (B, H', W', G, K, 2) y and x in cells, K for each of G groups of
            channels.
        mask: factors (B, H', W', G, K), or None.

    Returns:
        (B, H', W', G, K, C / G).
    """
    batch, height, width = ops.shape(inputs)[:3]
    groups = positions.shape[3]
    # Rows of one group of channels; a gather of whole rows is the fastest way on all backends.
    rows = ops.reshape(inputs, (-1, inputs.shape[-1] // groups))
    first = ops.reshape(ops.arange(batch, dtype="int32") * height * width, (-1, 1, 1, 1, 1))
    group = ops.reshape(ops.arange(groups, dtype="int32"), (-1, 1))
    corner = ops.floor(positions)
    part = positions - ops.stop_gradient(corner)
    # Far outside nothing is read; the limits keep whole numbers in range.
    limits = ops.cast(ops.stack([height, width]), "float32")
    corner = ops.cast(ops.clip(corner, -2.0, limits), "int32")
    total = 0.0
    for down in (0, 1):
        for right in (0, 1):
            y, x = corner[..., 0] + down, corner[..., 1] + right
            weight = (part[..., 0] if down else 1 - part[..., 0]) * (
                part[..., 1] if right else 1 - part[..., 1]
            )
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            weight = ops.where(inside, weight, 0.0)
            if mask is not None:
                weight = weight * mask
            cell = first + ops.clip(y, 0, height - 1) * width + ops.clip(x, 0, width - 1)
            read = ops.take(rows, cell * groups + group, axis=0)
            total = total + read * ops.cast(weight, inputs.dtype)[..., None]
    return total
