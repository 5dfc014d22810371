"""What was to be reached, beside what was measured."""

NETWORK, END_TO_END, TRAINING = "network", "end to end", "training step"
PLAIN = "plain PyTorch"
PHOTOS = "nano_bccd, detect"
SMALL, LARGE, LARGE_TRAINING = "nano_bccd", "r50_coco", "r50_coco, training"


class Figures:
    """The rows of speed.csv, by what they are of."""

    def __init__(self, rows):
        self._rows = {
            (row["model"], str(row["batch"]), row["subject"], row["part"]): row for row in rows
        }

    def ms(self, model, subject, part, batch=1):
        return float(self._rows[model, str(batch), subject, part]["median_ms"])

    def mb(self, model, subject, part, batch=1):
        return float(self._rows[model, str(batch), subject, part]["peak_mb"])


def goals():
    """Rows of the table: what, the most that it may be, unit, function of `Figures`."""
    found = []

    def goal(what, most, unit, function):
        found.append((what, most, unit, function))

    for batch in (1, 8):
        images = "1 image" if batch == 1 else f"{batch} images"

        def part(subject, name, batch=batch):
            return lambda f: f.ms(SMALL, subject, name, batch)

        def ratio(one, other):
            return lambda f: one(f) / other(f)

        network = part("tensorflow", NETWORK)
        for subject in ("tensorflow", "jax", "torch"):
            what = f"`nano_bccd`, {images}, {subject}: end to end / its network"
            most = None if subject == "torch" else 1.15
            own = ratio(part(subject, END_TO_END), part(subject, NETWORK))
            goal(what, most, "x", own)
        for subject, most in (("saved_model", 1.15), ("onnx", 1), ("openvino", 1), ("litert", 1)):
            what = f"`nano_bccd`, {images}, {subject}: end to end / TensorFlow's network"
            goal(what, most, "x", ratio(part(subject, END_TO_END), network))
    for backend in ("tensorflow", "jax", "torch"):
        goal(
            f"`nano_bccd`, 1 image, {backend}: `predict` / `predict_on_batch`",
            1.2,
            "x",
            lambda f, b=backend: f.ms(SMALL, b, "predict") / f.ms(SMALL, b, END_TO_END),
        )
    for backend in ("tensorflow", "jax", "torch"):
        goal(
            f"`detect`, photos of 22 sizes, {backend}: first pass after one compilation / second",
            1.5,
            "x",
            lambda f, b=backend: (
                f.ms(PHOTOS, b, "first pass", 22) / f.ms(PHOTOS, b, "second pass", 22)
            ),
        )
    for subject, most in (("tensorflow", None), ("jax", None), ("torch", 1.15)):
        goal(
            f"`r50_coco`, {subject}: end to end / plain PyTorch",
            most,
            "x",
            lambda f, s=subject: f.ms(LARGE, s, END_TO_END) / f.ms(LARGE, PLAIN, END_TO_END),
        )
    for subject, most in (("tensorflow", 900), ("torch", 1200), ("onnx", 1200)):
        goal(
            f"`r50_coco`, {subject}: peak memory",
            most,
            "MB",
            lambda f, s=subject: f.mb(LARGE, s, END_TO_END),
        )
    for subject, most, memory in (
        ("tensorflow", 0.88, 1200),
        ("jax", 1.2, 1400),
        ("torch", 1.1, None),
    ):
        goal(
            f"`r50_coco`, {subject}: training step / plain PyTorch",
            most,
            "x",
            lambda f, s=subject: (
                f.ms(LARGE_TRAINING, s, TRAINING, 2) / f.ms(LARGE_TRAINING, PLAIN, TRAINING, 2)
            ),
        )
        goal(
            f"`r50_coco`, {subject}: peak memory of training",
            memory,
            "MB",
            lambda f, s=subject: f.mb(LARGE_TRAINING, s, TRAINING, 2),
        )
    help_of = ("command line", "command line", "--help")
    goal("`keras-gflv2 --help`", 0.3, "s", lambda f: f.ms(*help_of) / 1000)
    return found


def table(rows):
    """Markdown of what was measured; rows that were not are left out."""
    figures = Figures(rows)
    lines = ["| what | measured | goal |", "| --- | ---: | ---: |"]
    for what, most, unit, function in goals():
        try:
            value = function(figures)
        except (KeyError, ValueError):
            continue
        missed = most is not None and value > most
        aim = "" if most is None else f"{_text(most, unit)}{' (missed)' if missed else ''}"
        lines.append(f"| {what} | {_text(value, unit)} | {aim} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _text(value, unit):
    if unit == "MB":
        return f"{value:.0f} MB"
    return f"{value:.2f}" if unit == "x" else f"{value:.2f} {unit}"
