"""How `train` trains: the recipe for this data, the optimizer, the teacher."""

from keras_gflv2.cli.backbone import is_pretrained


def recipe_of(arguments):
    """The `Recipe` of the command line: the one asked for, or the one that fits its start."""
    from keras_gflv2 import recipes

    is_trained = arguments.model or is_pretrained(arguments)
    return recipes.get(arguments.recipe or ("finetune" if is_trained else "scratch"))


def plan_of(arguments, train_ds):
    """The recipe for the training data: a `Plan`."""
    recipe, batch_size = recipe_of(arguments), arguments.batch_size
    rate = arguments.learning_rate or recipe.peak(batch_size * (arguments.accumulate or 1))
    images = len(train_ds) * batch_size
    return recipe.plan(images, batch_size, epochs=arguments.epochs, learning_rate=rate)


def compile_model(model, plan, arguments):
    """Compiles a detector with the optimizer of a plan, and freezes what is to stay."""
    if arguments.freeze_backbone:
        model.backbone.trainable = False
    options = {}
    if arguments.ema is not None:
        options["use_ema"] = arguments.ema > 0
        options["ema_momentum"] = arguments.ema or 0.99  # which Keras wants in 0..1 all the same
    if arguments.accumulate:
        options["gradient_accumulation_steps"] = arguments.accumulate
    optimizer = plan.optimizer(model, **options)
    model.compile(optimizer)
    # With its variables made now, TensorFlow traces the training step once, not twice.
    model.optimizer.build(model.trainable_variables)


def take_teacher(model, teacher, arguments):
    """Has a compiled detector imitate a teacher, as the command line says."""
    from keras_gflv2.training import distill

    options = {"temperature": arguments.temperature, "weight": arguments.distillation_weight}
    distill(model, teacher, **{name: value for name, value in options.items() if value})
