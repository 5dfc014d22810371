"""`keras-gflv2 export`: a trained detector to a SavedModel that TF Serving runs."""

from keras_gflv2.cli.arguments import add_image_size, add_model, positive_int
from keras_gflv2.cli.sources import load_model

NAME = "export"
HELP = "write a SavedModel that takes image files and returns boxes, for TF Serving"


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR/NAME/VERSION",
        help="folder to write; VERSION is a whole number",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing version")
    parser.add_argument(
        "--score-threshold", type=float, help="if not given, that of the model's decoder (0.05)"
    )
    parser.add_argument(
        "--nms-iou-threshold", type=float, help="if not given, that of the model's decoder (0.6)"
    )
    parser.add_argument(
        "--max-detections", type=positive_int, help="if not given, that of the decoder (100)"
    )
    add_image_size(parser)


def run(arguments):
    """Exports and says how to serve the result."""
    import pathlib

    from keras_gflv2.serving import export_saved_model

    directory = export_saved_model(
        load_model(arguments.model),
        arguments.output,
        overwrite=arguments.overwrite,
        score_threshold=arguments.score_threshold,
        nms_iou_threshold=arguments.nms_iou_threshold,
        max_detections=arguments.max_detections,
        image_size=arguments.image_size,
    )
    served = pathlib.Path(directory).parent
    print(
        f"tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name={served.name} "
        f"--model_base_path={served.resolve()}\n"
        f"keras-gflv2 predict --server http://localhost:8501/{served.name} --output pictures "
        f"IMAGE\nWrote {directory}"
    )
