"""`keras-gflv2 convert`: a weight file of mmdetection or PaddleDetection to a preset folder."""

from keras_gflv2.cli.arguments import add_verbose, positive_int

NAME = "convert"
HELP = "convert a weight file of mmdetection or PaddleDetection"


def add_arguments(parser):
    parser.add_argument("file", help="the weight file, .pth or .pdparams; nothing in it is run")
    parser.add_argument(
        "--preset",
        required=True,
        help="built-in preset of the same network (`keras-gflv2 presets`); classes, deformable "
        "stages and smaller widths are read off the file",
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="names of the classes in their order; COCO's if not given and there are 80",
    )
    parser.add_argument(
        "--head-norm-groups",
        type=positive_int,
        help="groups of the head's normalization, which no file tells; the preset's if not given",
    )
    parser.add_argument(
        "--output", default="converted", metavar="DIR", help="preset folder to write"
    )
    add_verbose(parser)


def run(arguments):
    """Converts the file and says how to use the result."""
    arguments.when_interrupted = "; nothing was written"
    from keras_gflv2.checkpoints import convert

    directory = convert(
        arguments.file,
        arguments.preset,
        arguments.output,
        class_names=arguments.class_names,
        head_norm_groups=arguments.head_norm_groups,
    )
    print(f"Wrote {directory}: DenseDetector.from_preset({directory!r}), or --model {directory}")
