"""The figure of docs/speed.md: what time grows with, and what it does not."""

PANELS = {
    "pixels": ("end to end, one image", "pixels"),
    "boxes": ("training step, 2 images", "boxes per image, padding included"),
    "candidates": ("decoding and NMS, 512x640", "candidates above the threshold"),
    "locations": ("decoding and NMS, 100 candidates", "locations"),
}
STRIDES = (8, 16, 32, 64, 128)


def draw(rows, file):
    """Draws the rows of the group "series" of speed.csv; nothing without them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["group"] == "series"]
    if not rows:
        return
    figure, axes = plt.subplots(1, 4, figsize=(13, 3), constrained_layout=True)
    for axis, (kind, (title, label)) in zip(axes, PANELS.items()):
        own = [row for row in rows if row["model"].endswith(f", {kind}")]
        for backend in dict.fromkeys(row["subject"] for row in own):
            points = [row for row in own if row["subject"] == backend]
            x = [_position(kind, row["part"]) for row in points]
            y = [float(row["median_ms"]) for row in points]
            axis.plot(x, y, marker="o", markersize=3, linewidth=1, label=backend)
        axis.set(title=title, xlabel=label, ylabel="ms")
        axis.set_ylim(bottom=0)
        axis.title.set_fontsize(9)
        if kind == "candidates":
            axis.set_xscale("log")
    axes[0].legend(fontsize=8)
    figure.savefig(file)
    plt.close(figure)


def _position(kind, part):
    """Where a row is on the axis."""
    if "x" not in part:
        return int(part)
    height, width = map(int, part.split("x"))
    if kind == "pixels":
        return height * width
    return sum(-(-height // s) * -(-width // s) for s in STRIDES)
