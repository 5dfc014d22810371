"""How to train: the paper's schedules, and others where its data and pretrained weights are absent.

A recipe follows from the number of images, the images a step and the epochs: whoever changes the
batch size and not the learning rate gets losses in the thousands.
"""

from keras_gflv2.recipes.plan import Plan
from keras_gflv2.recipes.published import (
    PAPER_NUM_IMAGES,
    RECIPES,
    finetune,
    get,
    paper_1x,
    paper_2x,
)
from keras_gflv2.recipes.recipe import PAPER_BATCH_SIZE, Recipe
from keras_gflv2.recipes.sgd_with_l2 import SGDWithL2
from keras_gflv2.recipes.warm_up_cosine import WarmUpCosine
from keras_gflv2.recipes.warm_up_step_decay import WarmUpStepDecay
from keras_gflv2.recipes.whole_training import WholeTraining, first_step, parts_of

__all__ = [
    "PAPER_BATCH_SIZE",
    "PAPER_NUM_IMAGES",
    "RECIPES",
    "Plan",
    "Recipe",
    "SGDWithL2",
    "WarmUpCosine",
    "WarmUpStepDecay",
    "WholeTraining",
    "finetune",
    "first_step",
    "get",
    "paper_1x",
    "paper_2x",
    "parts_of",
]
