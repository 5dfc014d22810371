"""Prediction of batches of any size on one device, without what Keras does around a step."""

import keras
import numpy as np

from keras_gflv2.replicas.devices import is_spread


class OneDevicePrediction:
    """`predict_step` of a model as a function of one batch, on one of the model's devices.

    TensorFlow traces it once, with unknown sizes, for all batches of one form; JAX, and any backend
    with `jit_compile=True`, compiles it for each shape. `predict_on_batch` of Keras would trace
    TensorFlow's up to four times, and on JAX assign all weights anew after each batch. Of a model
    that is spread over several devices Keras hands a batch to all: on JAX it must be divisible by
    their number, on TensorFlow each gets a copy of it, and of several processes all must take
    part. Here this process uses the weights that it has.

    Args:
        model: a built `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        self._variables = model.variables  # Keras walks through all layers for them.
        self._steps = {}  # compiled functions of the forms of batches

    def __call__(self, batch):
        """What `predict_on_batch` returns, as numpy arrays.

        Args:
            batch: images (B, H, W, 3), or a dictionary with "images" and others of B rows.
        """
        run = {"tensorflow": self._run_tensorflow, "jax": self._run_jax, "torch": self._run_torch}
        batch = keras.tree.map_structure(_plain, batch)
        size = len(keras.tree.flatten(batch)[0])
        if size == 0:  # the shapes of the results are those of a blank image
            batch = keras.tree.map_structure(_blank_row, batch)
        found = run[keras.backend.backend()](batch)
        return keras.tree.map_structure(lambda x: np.array(x)[:size], found)

    def _run_tensorflow(self, batch):
        if self._model.run_eagerly:
            return self._model.predict_step((batch,))
        form = str(keras.tree.map_structure(lambda x: (x.dtype.name, x.ndim), batch))
        if form not in self._steps:
            self._steps[form] = self._traced(batch)
        return self._steps[form](batch)

    def _traced(self, batch):
        import tensorflow as tf

        def step(batch):
            return self._model.predict_step((batch,))

        if compiles_each_shape(self._model):  # which wants to know it, too
            return tf.function(step, autograph=False, jit_compile=True)
        # Sizes are unknown, but not the last: channels, or the two of a size.
        specs = keras.tree.map_structure(
            lambda x: tf.TensorSpec((*[None] * (x.ndim - 1), x.shape[-1]), x.dtype), batch
        )
        return tf.function(step, input_signature=[specs], autograph=False)

    def _run_jax(self, batch):
        values = [variable.value for variable in self._variables]
        if is_spread(self._model):
            values = [value.addressable_data(0) for value in values]
        if not compiles_each_shape(self._model):
            return self._stateless_step(values, batch)
        if "jit" not in self._steps:
            import jax

            self._steps["jit"] = jax.jit(self._stateless_step)
        return self._steps["jit"](values, batch)

    def _stateless_step(self, values, batch):
        """`predict_step` on JAX, of the values of all variables."""
        model = self._model
        with keras.StatelessScope(state_mapping=zip(self._variables, values)):
            state = tuple(
                [variable.value for variable in variables]
                for variables in (model.trainable_variables, model.non_trainable_variables)
            )
            return model.predict_step(state, (batch,))[0]

    def _run_torch(self, batch):
        found = self._model.predict_function([(batch,)])
        return keras.tree.map_structure(keras.ops.convert_to_numpy, found)


def predict_on_one_device(model, batch):
    """`OneDevicePrediction` of a model, kept in the model until it is compiled anew.

    Args:
        model: a built `keras.Model` with an attribute `one_device_prediction`, None at first.
        batch: see there.
    """
    if model.one_device_prediction is None or model.predict_function is None:
        # `compile` removes that of Keras.
        model.make_predict_function()
        model.one_device_prediction = OneDevicePrediction(model)
    return model.one_device_prediction(batch)


def compiles_each_shape(model):
    """Whether a batch of a new shape costs a compilation, by XLA or `torch.compile`."""
    if not isinstance(model, keras.Model) or model.run_eagerly:
        return False
    if keras.backend.backend() == "jax":
        return model.jit_compile
    # Keras would choose XLA for a model that nobody has compiled on a GPU.
    return bool(model.compiled and model.jit_compile)


def _plain(array):
    """An array in one of few types: TensorFlow would trace a step for each."""
    if keras.ops.is_tensor(array):  # where it may be on another device
        return array
    array = np.asarray(array)
    if array.dtype == np.uint8:
        return array
    whole = np.issubdtype(array.dtype, np.integer)
    return array.astype("int32" if whole else "float32", copy=False)


def _blank_row(array):
    return np.zeros((1, *array.shape[1:]), keras.backend.standardize_dtype(array.dtype))
