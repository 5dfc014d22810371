"""Convolution, pooling, normalization and up-sampling of channels-last maps on PyTorch.

Imported on that backend only. Keras's operations copy each map to channels-first memory and back
around every convolution and pooling, and normalize in chains of elementwise operations. A permuted
view of a channels-last map is what PyTorch calls a tensor in channels-last memory: its own kernels
take it as it is, and return one. All functions take and return maps (B, H, W, C).
"""

import torch
import torch.nn.functional as F
from keras import ops


def conv2d(inputs, kernel, bias, strides, padding, dilation_rate, groups):
    """Convolution with a kernel (kh, kw, C / groups, D) and symmetric zero padding.

    Args:
        padding: (vertical, horizontal) on each side.
    """
    kernel = ops.convert_to_tensor(kernel)
    bias = None if bias is None else ops.convert_to_tensor(bias)
    if inputs.shape[2] == 1 and max(strides) > 1:
        # Of a map one cell wide, PyTorch 2.13 leaves gradients of bfloat16 kernels unwritten where
        # the kernel only meets padding, unless the padding is part of the map.
        inputs, padding = F.pad(inputs, (0, 0, padding[1], padding[1])), (padding[0], 0)
    return _channels_last(
        F.conv2d(
            _channels_first(inputs), _weight(kernel), bias, strides, padding, dilation_rate, groups
        )
    )


def max_pool(inputs, size, stride, padding):
    """Largest value of each window; padding, on all sides, does not count."""
    return _channels_last(F.max_pool2d(_channels_first(inputs), size, stride, padding))


def double(inputs):
    """Nearest up-sampling to twice the height and width."""
    return _channels_last(F.interpolate(_channels_first(inputs), scale_factor=2, mode="nearest"))


def batch_normalization(inputs, mean, variance, scale, offset, epsilon):
    """Normalization of each channel by given statistics (C,), computed in float32 or wider."""
    mean, variance, scale, offset = _as_precise(inputs, mean, variance, scale, offset)
    return _channels_last(
        F.batch_norm(_channels_first(inputs), mean, variance, scale, offset, eps=epsilon)
    )


def live_batch_normalization(inputs, scale, offset, epsilon):
    """Normalization of each channel by the statistics of the batch.

    Returns:
        The maps, and mean and biased variance (C,), which have no gradient.
    """
    scale, offset = _as_precise(inputs, scale, offset)
    mean, variance = torch.zeros_like(inputs[0, 0, :1].expand(2, -1), dtype=_precision(inputs))
    # With a momentum of 1 the running statistics become those of the batch.
    outputs = F.batch_norm(
        _channels_first(inputs), mean, variance, scale, offset, True, 1.0, epsilon
    )
    count = inputs[..., 0].numel()
    return _channels_last(outputs), mean, variance * ((count - 1) / count)


def group_normalization(inputs, groups, scale, offset, epsilon, overwrite=False):
    """Normalization of groups of channels of each image, computed in float32 or wider."""
    scale, offset = _as_precise(inputs, scale, offset)
    # PyTorch's kernel takes the variance as E[x^2] - E[x]^2, whose error grows with the square of
    # mean / deviation. The result does not depend on what is subtracted from a channel's group.
    with torch.no_grad():
        mean = inputs.mean((1, 2), keepdim=True, dtype=_precision(inputs))  # (B, 1, 1, C)
        mean = mean.unflatten(-1, (groups, -1)).mean(-1, keepdim=True)
        mean = mean.expand(-1, -1, -1, -1, inputs.shape[-1] // groups).flatten(-2)
    in_place = overwrite and inputs.dtype == mean.dtype
    centered = inputs.sub_(mean) if in_place else inputs - mean
    if torch.is_grad_enabled() and not centered.requires_grad:
        # The gradients of scale and offset alone crash PyTorch 2.13 in channels-last memory.
        wanted = any(w is not None and w.requires_grad for w in (scale, offset))
        centered = centered.detach().requires_grad_(wanted)
    return _channels_last(F.group_norm(_channels_first(centered), groups, scale, offset, epsilon))


def _channels_first(maps):
    """A view (B, C, H, W) of maps (B, H, W, C)."""
    return maps.permute(0, 3, 1, 2)


def _channels_last(maps):
    """A view (B, H, W, C) of maps (B, C, H, W)."""
    return maps.permute(0, 2, 3, 1)


def order_kernel(variable):
    """Gives a new kernel (kh, kw, C, D) the order in memory that PyTorch's kernels read.

    Shape and values stay; otherwise every call would transpose it, and so its gradient.
    """
    value = variable.value
    value.data = _weight(value.data).permute(2, 3, 1, 0)


def _weight(kernel):
    """A kernel (kh, kw, C, D) as a weight (D, C, kh, kw) in channels-last memory."""
    weight = kernel.permute(3, 2, 0, 1)
    if weight.is_contiguous(memory_format=torch.channels_last):
        return weight
    # A transposition of a matrix is three times as fast as that of four dimensions.
    height, width, depth, filters = kernel.shape
    rows = kernel.reshape(-1, filters).t().contiguous()
    return rows.view(filters, height, width, depth).permute(0, 3, 1, 2)


def _precision(inputs):
    """The type in which statistics of maps are computed."""
    return torch.promote_types(inputs.dtype, torch.float32)


def _as_precise(inputs, *variables):
    """Weights, or None, as tensors of that type; PyTorch's kernels compute in the wider one."""
    dtype = _precision(inputs)
    return [None if v is None else ops.convert_to_tensor(v).to(dtype) for v in variables]
