"""`keras-gflv2 predict`: pictures with boxes, and all detections in COCO's results format."""

import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_verbose,
    add_views,
    fraction,
    write_json,
)
from keras_gflv2.cli.sources import load_model, with_views

NAME = "predict"
HELP = "find objects in pictures"


def add_arguments(parser):
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    where = parser.add_mutually_exclusive_group(required=True)
    add_model(where, required=False)
    where.add_argument(
        "--server",
        metavar="URL",
        help="have a server that runs an exported model find them: http://HOST:8501/MODEL or "
        "grpc://HOST:8500/MODEL",
    )
    parser.add_argument("--output", required=True, help="folder for pictures and detections.json")
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        help="leave out detections below; 0 to 1",
    )
    parser.add_argument(
        "--draw-uncertainties",
        action="store_true",
        help="shade each side of a box as far as its standard deviation reaches; for detectors "
        "with distributions",
    )
    parser.add_argument(
        "--coverage",
        type=fraction,
        help='write and draw "intervals" that hold the true sides with this probability, such as '
        "0.9; for detectors of keras-gflv2 calibrate",
    )
    add_image_size(parser)
    add_views(parser)
    add_verbose(parser)


def run(arguments):
    """Writes pictures with boxes, and all detections as one JSON in COCO's results format."""
    output = pathlib.Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file. Name a folder for pictures and detections.")
    paths, num_skipped = _readable(_image_paths(arguments.images))
    targets = _target_paths(paths, output)
    detect = _detector(arguments)
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for image_id, (path, target) in enumerate(zip(paths, targets)):
        found = _detect_and_draw(detect, path, target, arguments)
        results += _results_of_image(found, image_id, path)
        if arguments.verbose:
            is_last = image_id + 1 == len(paths)
            print(f"\r{image_id + 1}/{len(paths)} images", end="\n" if is_last else "", flush=True)
    write_json(output / "detections.json", results)
    skipped = f" ({num_skipped} files in folders are not images)" if num_skipped else ""
    print(
        f"Wrote {len(paths)} pictures and {len(results)} detections (detections.json) to "
        f"{output}{skipped}"
    )


def _detector(arguments):
    """Function from a path to the detections of `model.detect`: by a model here or by a server."""
    if arguments.server:
        from keras_gflv2.serving.client import ServingClient

        if arguments.image_size:
            raise ValueError("--image-size is fixed when a model is exported; leave it out.")
        if arguments.tta or arguments.box_voting:
            raise ValueError("--tta and --box-voting need the model itself: --model, not --server.")
        client = ServingClient(arguments.server)
        return lambda path: _served(client, path, arguments)
    model = with_views(load_model(arguments.model), arguments)
    size = tuple(arguments.image_size) if arguments.image_size else None
    options = {"image_size": size, "coverage": arguments.coverage}
    return lambda path: model.detect([path], arguments.score_threshold, **options)[0]


def _served(client, path, arguments):
    (found,) = client.detect([path], arguments.score_threshold, coverage=arguments.coverage)
    if found["status"] != "ok":
        raise ValueError(f"{path}: the server says: {found['status']}.")
    return found


def _detect_and_draw(detect, path, target, arguments):
    """Detections of one image, as `model.detect` gives them; writes its picture."""
    from keras_gflv2.images import read_image
    from keras_gflv2.visualization import draw_detections

    found = detect(path)
    picture = draw_detections(
        read_image(path),
        found,
        draw_uncertainties=arguments.draw_uncertainties,
        draw_intervals=arguments.coverage is not None,
    )
    picture.save(target)
    return found


def _readable(paths):
    """Which of the files are images, and how many are not; prints which are skipped.

    Decodes each before the first picture is written: a mistake shows at once.

    Args:
        paths: list of pairs of path and whether the user named it; then it must be an image.
    """
    from keras_gflv2.images import read_image

    images, skipped = [], []
    for path, is_named in paths:
        try:
            read_image(path)
            images.append(path)
        except (ValueError, OSError):  # OSError: not ours to read
            if is_named:
                raise
            skipped.append(path.name)
    if skipped:
        print(f"Skipped {len(skipped)} files that are not images: {_some(skipped)}")
    if not images:
        raise ValueError("There is no image in what was given: nothing to do.")
    return images, len(skipped)


def _image_paths(names):
    """Pairs of path and whether the user named it (True) or its folder (False)."""
    paths = []
    for name in names:
        path = pathlib.Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file())
            paths += [(p, False) for p in inside if not p.name.startswith(".")]
        elif path.is_file():
            paths.append((path, True))
        else:
            raise FileNotFoundError(f"The image {path} does not exist.")
    if not paths:
        raise ValueError(f"There is no image in {', '.join(names)}.")
    return paths


def _target_paths(paths, output):
    """Where the picture of each path goes: its name, numbered where two are the same."""
    sources = {path.resolve() for path in paths}
    taken, targets = set(), []
    for path in paths:
        suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".png"
        target, number = output / f"{path.stem}{suffix}", 2
        while target in taken:
            target, number = output / f"{path.stem}_{number}{suffix}", number + 1
        if target.resolve() in sources:
            raise ValueError(
                f"--output {output} is where the images are: {target} would be overwritten. "
                "Choose another folder."
            )
        taken.add(target)
        targets.append(target)
    return targets


def _results_of_image(found, image_id, path):
    """COCO's results; "uncertainties", standard deviations of left, top, right and bottom; and
    "intervals", lower and upper ends for these sides."""
    results = [
        {
            "image_id": image_id,
            "file_name": str(path),
            "category_id": int(label) + 1,
            "category_name": name,
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for (x1, y1, x2, y2), label, name, score in zip(
            found["boxes"], found["classes"], found["class_names"], found["confidence"]
        )
    ]
    for name in ("uncertainties", "intervals"):
        for result, sides in zip(results, found.get(name, ())):
            result[name] = sides.tolist()
    return results


def _some(names, limit=5):
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
