"""`keras-gflv2 presets`: the published weights as a table."""

from keras_gflv2.cli.arguments import add_verbose

NAME = "presets"
HELP = "list the detectors and backbones with published weights"
TITLES = ("val AP", "test-dev", "what", "compared here")


def add_arguments(parser):
    parser.add_argument("--urls", action="store_true", help="show where the weight files are")
    add_verbose(parser)


def run(arguments):
    """Prints one line for each preset, the detectors' grouped by their class."""
    from keras_gflv2.backbones import presets as backbones
    from keras_gflv2.models.zoo import DETECTORS

    print(_table(_detector_rows()))
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


def _detector_rows():
    """Rows of the table of detectors: a title for each class, then its presets."""
    from keras_gflv2.models.presets import EMBEDDED, detector_names
    from keras_gflv2.models.zoo import DETECTORS

    groups = {}
    for name, detector in detector_names().items():
        if name in EMBEDDED:
            row = (name, "-", "-", EMBEDDED[name], "trained here")
        else:
            p = DETECTORS[name]
            row = (name, _number(p.ap_val), _number(p.ap_test_dev), p.description, p.compared)
        groups.setdefault(detector, []).append(row)
    rows = []
    for detector, members in groups.items():
        rows += [("",) * 5] * bool(rows) + [(detector, *TITLES), *members]
    return rows


def _number(value):
    return "-" if value is None else f"{value:.1f}"


def _table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
