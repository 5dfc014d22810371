"""The largest of many values, equal ones in the order of their indices."""

import keras
from keras import ops


def best(values, k):
    """The `k` largest of `values` (B, N), float32 and not negative but for -1: which is none.

    Returns:
        Values and indices (B, k), int32, the largest first; of equal ones the first, first.
    """
    if keras.backend.backend() != "torch":
        values, indices = ops.top_k(values, k)
        return values, ops.cast(indices, "int32")
    import torch

    # `torch.topk` has equal values in any order. Floats are ordered as their bits are, which
    # leaves room for the index below.
    index = torch.arange(values.shape[1], device=values.device)
    keys = (values.view(torch.int32).to(torch.int64) << 32) | (0x7FFFFFFF - index)
    indices = torch.topk(keys, k).indices
    return torch.gather(values, 1, indices), indices.to(torch.int32)
