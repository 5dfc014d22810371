"""`keras-gflv2 data`: checks a dataset before it is trained on, and writes any as COCO."""

import pathlib

from keras_gflv2.cli.arguments import write_json
from keras_gflv2.cli.sources import DATA_HELP, sources_of

NAME = "data"
HELP = "check a dataset before hours are spent on it, or convert it to COCO"


def add_arguments(parser):
    parser.add_argument(
        "data",
        nargs="+",
        metavar="[convert] DATA",
        help=f"the dataset: {DATA_HELP}. With the word `convert` before it, it is written as COCO",
    )
    parser.add_argument("--output", help="for convert: the JSON file")


def run(arguments):
    """Checks a dataset, or converts it."""
    if arguments.data[0] == "convert" and len(arguments.data) == 2:
        _convert(arguments.data[1], arguments.output)
        return


def _convert(spec, output):
    from keras_gflv2.data.coco_writer import write_coco
    from keras_gflv2.data.records import check_records

    if not output:
        raise ValueError("data convert needs --output FILE.json")
    sources, said = sources_of(spec)
    if said:
        print(f"{said}.")
    output = pathlib.Path(output)
    written = []
    for split, source in sources.items():
        found = source.read()
        check_records(found.records, found.report, train=False)
        path = output if len(sources) == 1 else output.with_stem(f"{output.stem}_{split}")
        folder = write_coco(found, path, lambda path, content: write_json(path, content, None))
        boxes = sum(len(record.boxes) for record in found.records)
        print(f"{source}: {len(found.records)} images, {boxes} boxes")
        written.append(f"{path} (--data coco:{path}:{folder})")
    print(f"Wrote {', '.join(written)}")
