"""One way to train, for any data."""

import dataclasses
import math

import keras

from keras_gflv2.recipes.plan import Plan

PAPER_BATCH_SIZE = 16


@keras.saving.register_keras_serializable(package="keras_gflv2")
@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to train, for any data: `plan` fits it to yours.

    ```python
    model.compile(recipe="2x")  # fit sees the images a step and the epochs
    model.fit(train_ds, epochs=24)
    ```

    Attributes:
        name: what `compile(recipe=...)` and `keras-gflv2 train --recipe` take.
        description: one line.
        epochs: passes over the data.
        sgd: whether it is the paper's SGD (rate in proportion to the batch); else AdamW (to its
            root).
        learning_rate: peak for 16 images a step.
        warmup_steps: at most; never more than a quarter of the training.
        decays: parts of the training after which the rate falls to a tenth; empty for a cosine.
        short_sides: range from which the short side of a batch is drawn, in parts of the image
            size's; the paper's 480..960 is 0.6..1.2 of 800.
        ema: momentum of the average of the weights that replaces them in the end; 0 for none. In
            a short training less: it averages over a twentieth of the steps at most.
    """

    name: str
    description: str
    epochs: int
    sgd: bool
    learning_rate: float
    warmup_steps: int
    decays: tuple = ()
    short_sides: tuple = (1.0, 1.0)
    ema: float = 0.0

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        lists = {name: tuple(config[name]) for name in ("decays", "short_sides")}
        return cls(**{**config, **lists})

    def plan(
        self,
        num_images: int,
        batch_size: int,
        devices: int = 1,
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        first_step: int = 0,
    ) -> Plan:
        """This recipe for a number of images.

        Args:
            num_images: images of an epoch.
            batch_size: images a step on each device.
            devices: how many of them train together.
            epochs: instead of the recipe's; decays move along.
            learning_rate: peak, instead of the recipe's scaled one.
            first_step: `optimizer.iterations` where the training begins, if not at 0.

        Returns:
            `Plan`.

        Raises:
            ValueError: a number is not positive.
        """
        epochs = self.epochs if epochs is None else epochs
        for name, value in (
            ("num_images", num_images),
            ("batch_size", batch_size),
            ("devices", devices),
            ("epochs", epochs),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        global_batch = batch_size * devices
        steps_per_epoch = math.ceil(num_images / global_batch)
        if learning_rate is None:
            learning_rate = self.peak(global_batch)
        return Plan(self, global_batch, steps_per_epoch, epochs, learning_rate, first_step)

    def peak(self, images):
        """The highest learning rate for so many images an update."""
        scale = images / PAPER_BATCH_SIZE
        return self.learning_rate * (scale if self.sgd else math.sqrt(scale))

    def image_size(self, short, longest):
        """`image_size` of a training dataset: with a range of short sides where there is one.

        The paper's (800, 1333) becomes ((480, 960), 1333).
        """
        low, high = (round(part * short) for part in self.short_sides)
        return (short, longest) if low == high else ((low, high), max(high, longest))
