"""Figure 8: the loss on the quality during training, of GFLV1 and of GFLV2."""

from pathlib import Path

from keras_gflv2.training.progress import read_log
from keras_gflv2.visualization.figures.scenes import save

COLUMN = "classification_loss"


def quality_losses(logs, column=COLUMN):
    """Quality focal loss after each epoch, of one or more trainings.

    Args:
        logs: {label: path of the log.csv that `keras-gflv2 train` wrote}. Its column
            "classification_loss" is the quality focal loss of the joint score (GFLV1, GFLV2).
        column: of another loss.

    Returns:
        {label: {"epochs": list, "loss": list}}, epochs from 1.

    Raises:
        ValueError: a log is missing, empty, or has no such column.
    """
    curves = {}
    for label, path in logs.items():
        names, rows = read_log(path)
        if column not in names or not rows:
            raise ValueError(
                f"{path} has no rows with a column {column!r}. Name the log.csv of a training. "
                f"Columns: {names}."
            )
        points = [(int(row["epoch"]) + 1, float(row[column])) for row in rows]
        epochs, loss = (list(values) for values in zip(*points))
        curves[label] = {"epochs": epochs, "loss": loss}
    return curves


def draw_quality_loss(curves, path):
    """Draws what `quality_losses` returns to a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, curve in curves.items():
        axes.plot(curve["epochs"], curve["loss"], label=f"{label}: {curve['loss'][-1]:.4f} at last")
    axes.set(xlabel="epoch", ylabel="quality focal loss", title="loss on the quality in training")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, Path(path))
