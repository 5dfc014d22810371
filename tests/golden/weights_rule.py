"""The deterministic weight rule. Needs only numpy.

value(key, shape) -> float32 array in the PyTorch layout (conv: O,I,kh,kw; linear: O,I; C order).
rng = numpy.random.default_rng(zlib.crc32(key.encode())), key = the full state_dict key of the
detector, e.g. 'backbone.layer1.0.conv1.weight'. Drawn in float64, scaled, then cast to float32.
The FIRST rule that matches wins:

 1 ...'.num_batches_tracked'      int64 0
 2 ...'integral.project'          0,1,...,n-1  (a constant of the model: not random)
 3 ...'.running_mean'             0.1 * standard_normal
 4 ...'.running_var'              uniform(0.5, 1.5)
 5 ...'.scale' (Scale layers)     uniform(0.8, 1.2)            shape ()
 6 ...'conv_offset.weight'        0.1 / sqrt(fan_in) * standard_normal   (small: larger makes deep DCN stacks chaotic)
 7 ...'conv_offset.bias'          0.5 * standard_normal
 8 last convs (LAST below) weight 0.05 * standard_normal
 9 cls convs (CLS below) bias     constant -3.0
10 'reg_conf.0.weight'            1.0 * standard_normal
11 'reg_conf.2.weight'            0.5 * standard_normal
12 weight with ndim >= 2          sqrt(2 / fan_in) * standard_normal, fan_in = prod(shape[1:])
13 weight with ndim == 1          uniform(0.8, 1.2)   (BN and GN); times 0.25 if it is the last
                                  norm of a residual branch: key ends with 'bn3.weight', or with
                                  'bn2.weight' in a block without conv3 (pass basic_block=True)
14 bias                           0.1 * standard_normal
fan_in is always prod(shape[1:]) of the PyTorch shape (grouped convs included).
"""

import zlib

import numpy as np

LAST = (
    "gfl_cls",
    "gfl_reg",
    "atss_cls",
    "atss_reg",
    "atss_centerness",
    "retina_cls",
    "retina_reg",
    "conv_cls",
    "conv_reg",
    "conv_centerness",
)
CLS = ("gfl_cls", "atss_cls", "retina_cls", "conv_cls")


def value(key, shape, basic_block=False):
    shape = tuple(int(s) for s in shape)
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    parts = key.split(".")
    leaf, owner = parts[-1], parts[-2] if len(parts) > 1 else ""
    fan_in = int(np.prod(shape[1:])) if len(shape) >= 2 else 1
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if key.endswith("integral.project"):
        return np.arange(shape[0], dtype=np.float32)
    if leaf == "running_mean":
        v = 0.1 * rng.standard_normal(shape)
    elif leaf == "running_var":
        v = rng.uniform(0.5, 1.5, shape)
    elif leaf == "scale":
        v = rng.uniform(0.8, 1.2, shape)
    elif owner == "conv_offset":
        v = rng.standard_normal(shape) * (0.1 / np.sqrt(fan_in) if leaf == "weight" else 0.5)
    elif owner in LAST and leaf == "weight":
        v = 0.05 * rng.standard_normal(shape)
    elif owner in CLS and leaf == "bias":
        v = np.full(shape, -3.0)
    elif key.endswith("reg_conf.0.weight"):
        v = 1.0 * rng.standard_normal(shape)
    elif key.endswith("reg_conf.2.weight"):
        v = 0.5 * rng.standard_normal(shape)
    elif leaf == "weight" and len(shape) >= 2:
        v = np.sqrt(2.0 / fan_in) * rng.standard_normal(shape)
    elif leaf == "weight":
        v = rng.uniform(0.8, 1.2, shape)
        if owner == "bn3" or (basic_block and owner == "bn2"):
            v = v * 0.25
    elif leaf == "bias":
        v = 0.1 * rng.standard_normal(shape)
    else:
        raise KeyError(key)
    return np.asarray(v, np.float64).astype(np.float32)


def fill_torch(module, prefix="", basic_block=False):
    import torch

    sd = module.state_dict()
    new = {
        k: torch.from_numpy(np.array(value(prefix + k, v.shape, basic_block)))
        .reshape(v.shape)
        .to(v.dtype)
        for k, v in sd.items()
    }
    module.load_state_dict(new, strict=True)
    return module
