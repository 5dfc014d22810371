"""Types in the signatures of public functions, where Keras, which is untyped, leaves them open."""

import os
from typing import Any

PathLike = str | os.PathLike[str]
# A `DenseDetector`; where detections are enough, a `TestTimeAugmentation` too.
Detector = Any
# Batches as `fit` takes them: of this package's loaders, tf.data, PyDataset, DataLoader, ...
Dataset = Any
# An array of numpy or of the backend, or numbers that become one.
Array = Any
# The name of a dtype policy, or a `keras.DTypePolicy`.
DType = Any
# A name that Keras knows, an object of Keras, or a function.
Loss = Any
# "auto", or 0, 1, 2, as in Keras.
Verbose = str | int
