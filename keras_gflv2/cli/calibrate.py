"""`keras-gflv2 calibrate`: uncertainties that are as large as the errors, and their intervals."""

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_validation_fraction,
    add_verbose,
    fraction,
    positive_int,
)
from keras_gflv2.cli.sources import DATA_HELP, evaluation_data, load_model

NAME = "calibrate"
HELP = "calibrate the uncertainties of a detector on images with objects"
SHOWN = (0.5, 0.8, 0.9, 0.95)


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "--data",
        required=True,
        help=f"images with objects that the detector was not trained on: {DATA_HELP}",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PRESET_DIR",
        help="folder for the calibrated detector, which --model takes; or a .keras file",
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
    add_validation_fraction(parser)
    add_image_size(parser)
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.0,
        help="leave out detections below; 0 to 1",
    )
    add_verbose(parser)


def run(arguments):
    """Writes the detector with its calibration and prints what was learnt."""
    from keras_gflv2.evaluation import calibrate

    arguments.when_interrupted = "; nothing was written"
    model = load_model(arguments.model)
    dataset = evaluation_data(arguments.data, model, arguments)
    calibration = calibrate(
        model,
        dataset,
        score_threshold=arguments.score_threshold,
        verbose=arguments.verbose,
    )
    if arguments.output.endswith(".keras"):
        model.save(arguments.output)
    else:
        model.save_to_preset(arguments.output)
    print(format_calibration(calibration))
    print(f"Wrote the detector with its calibration to {arguments.output}")


def format_calibration(calibration):
    """Half the width of intervals in calibrated standard deviations, as a table."""
    from keras_gflv2.intervals import SIDES, conformal_quantile

    table = calibration.get_config()
    lines = [
        f"{calibration.num_matched} detections match an object. Intervals reach so many calibrated "
        "standard deviations to both sides:",
        "coverage  " + "  ".join(f"{side:>6}" for side in SIDES),
    ]
    for coverage in SHOWN:
        if coverage <= calibration.coverages[-1]:
            row = conformal_quantile(coverage, table)
            lines.append(f"{coverage:8.2f}  " + "  ".join(f"{value:6.2f}" for value in row))
    return "\n".join(lines)
