"""The recipes by name: the paper's schedules, and others for other data."""

from typing import Any

from keras_gflv2.recipes.plan import Plan
from keras_gflv2.recipes.recipe import Recipe

PAPER_NUM_IMAGES = 117_266  # of COCO train2017, those with boxes


_PAPER: dict[str, Any] = {"sgd": True, "learning_rate": 0.01, "warmup_steps": 500}
_ADAMW: dict[str, Any] = {"sgd": False, "warmup_steps": 100}
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("1x", "the paper's, Tables 1-6", epochs=12, decays=(8 / 12, 11 / 12), **_PAPER),
        Recipe(
            "2x",
            "the paper's, Table 7: twice as long, with images of many sizes",
            epochs=24,
            decays=(16 / 24, 22 / 24),
            short_sides=(0.6, 1.2),
            **_PAPER,
        ),
        Recipe(
            "finetune",
            "for small data and a pretrained detector: AdamW, cosine, averaged weights",
            epochs=36,
            learning_rate=1e-3,
            ema=0.998,
            **_ADAMW,
        ),
        Recipe(
            "scratch",
            "for training from nothing: AdamW at a higher rate, cosine",
            epochs=40,
            learning_rate=2e-3,
            **_ADAMW,
        ),
    )
}


def get(recipe: str | Recipe) -> Recipe:
    """A `Recipe` from its name, or itself.

    Raises:
        ValueError: there is none of this name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"`recipe` must be one of {list(RECIPES)}, got {recipe!r}.")
    return RECIPES[recipe]


def paper_1x(num_images: int, batch_size: int, devices: int = 1, **kwargs) -> Plan:
    """The paper's 1x schedule as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["1x"].plan(num_images, batch_size, devices, **kwargs)


def paper_2x(num_images: int, batch_size: int, devices: int = 1, **kwargs) -> Plan:
    """The paper's 2x schedule as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["2x"].plan(num_images, batch_size, devices, **kwargs)


def finetune(num_images: int, batch_size: int, devices: int = 1, **kwargs) -> Plan:
    """For small data and a pretrained detector, as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["finetune"].plan(num_images, batch_size, devices, **kwargs)
