"""`keras-gflv2 presets`: the published weights as a table."""

NAME = "presets"
HELP = "list the detectors and backbones with published weights"


def add_arguments(parser):
    parser.add_argument("--urls", action="store_true", help="show where the weight files are")


def run(arguments):
    """Prints one line for each preset."""
    from keras_gflv2.backbones import presets as backbones
    from keras_gflv2.models.presets import EMBEDDED
    from keras_gflv2.models.zoo import DETECTORS

    rows = [("detector", "val AP", "test-dev", "what", "compared here")]
    rows += [
        (p.name, _number(p.ap_val), _number(p.ap_test_dev), p.description, p.compared)
        for p in DETECTORS.values()
    ]
    rows += [(name, "-", "-", what, "trained here") for name, what in EMBEDDED.items()]
    print(_table(rows))
    published = {**backbones.RESNETS, **backbones.RES2NETS}
    rows = [("backbone", "what"), *((p.name, p.description) for p in published.values())]
    print(f"\n{_table(rows)}")
    if arguments.urls:
        print()
        for preset in (*DETECTORS.values(), *published.values()):
            print(f"{preset.name}: {preset.url} -> {preset.file}")
    print(
        "\nAP as published, COCO; the last column: what equals the original's on deterministic "
        "weights.\n`keras-gflv2 evaluate --model NAME --data "
        "coco:annotations/instances_val2017.json:val2017` measures the first."
    )


def _number(value):
    return "-" if value is None else f"{value:.1f}"


def _table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
