"""`keras-gflv2 predict`: finds objects in images, videos and what cameras see."""

import argparse
import math
import pathlib
import shlex

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_verbose,
    add_views,
    fraction,
    positive_float,
    positive_int,
    sides,
)
from keras_gflv2.cli.predictions import FORMATS, Predictions
from keras_gflv2.cli.progress import progress
from keras_gflv2.cli.sources import load_model, with_views

NAME = "predict"
HELP = "find objects in images and videos"
# What the detections of a run depend on: it cannot change when the run is resumed.
SETTINGS = (
    *("model", "server", "score_threshold", "coverage", "image_size", "tta", "box_voting"),
    *("tile", "overlap", "formats", "track", "frame_step", "max_frames"),
)
# Images that are read before the detector runs, in batches: those of one size run together.
READ_BATCHES = 4
READ_BYTES = 2**28


def add_arguments(parser):
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, video files, folders (with all that is in them), patterns such as "
        "'photos/**/*.jpg', http: and https: addresses, rtsp: streams, or camera:0",
    )
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
        "--formats",
        nargs="+",
        choices=FORMATS,
        metavar="FORMAT",
        default=["pictures", "json"],
        help="what is written: " + "; ".join(f"{name} ({text})" for name, text in FORMATS.items()),
    )
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
    parser.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
    add_image_size(parser)
    add_views(parser)
    parser.add_argument(
        "--tile",
        type=sides,
        metavar="SIDE",
        help="for large images: look at them in tiles of so many pixels, such as 640 or, as height "
        "and width, 480x640",
    )
    parser.add_argument(
        "--overlap",
        type=_overlap,
        default=0.2,
        help="least overlap of neighboring tiles, as a fraction of a tile; at least as large as "
        "most objects are",
    )
    parser.add_argument(
        "--max-megapixels",
        type=positive_float,
        default=64.0,
        help="refuse images with more million pixels: a small file can declare any size",
    )
    video = parser.add_argument_group("videos and cameras")
    video.add_argument(
        "--frame-step", type=positive_int, default=1, help="look at every so many frames"
    )
    video.add_argument("--max-frames", type=positive_int, help="end after so many frames of each")
    video.add_argument(
        "--track",
        action="store_true",
        help='give each object of a video a number ("track_id") that it keeps in all frames',
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on after an interruption, with the same arguments: images that are done are left "
        "out",
    )
    add_verbose(parser)


def _overlap(text):
    value = fraction(text)
    if value == 1:
        raise argparse.ArgumentTypeError("must be less than 1")
    return value


def run(arguments):
    """Writes pictures with boxes, and all detections as one JSON in COCO's results format."""
    from keras_gflv2 import images, inputs

    images.MAX_PIXELS = round(arguments.max_megapixels * 1e6)
    output = pathlib.Path(arguments.output)
    sources = inputs.find_sources(arguments.images, output)
    _check_libraries(arguments, sources)
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    draw = _drawing(arguments)
    predictions = Predictions(output, arguments.formats, settings, draw, arguments.frame_step)
    predictions.check(sources)
    unread = Unreadable()
    detect, class_names = _detector(arguments)
    predictions.open(arguments.resume, class_names)
    is_complete = False
    try:
        _predict(arguments, sources, detect, predictions, unread)
        is_complete = True
    finally:
        predictions.close(is_complete)
        arguments.when_interrupted = _how_to_go_on(arguments, predictions)
    unread.report(predictions.num_images)
    formats = "" if arguments.formats == ["json"] else f", {', '.join(arguments.formats)}"
    print(
        f"Wrote {predictions.num_detections} detections in {predictions.num_images} images "
        f"(detections.json{formats.replace(', json', '')}) to {output}{unread.skipped_text()}"
    )


def _predict(arguments, sources, detect, predictions, unread):
    """Runs the detector over all sources that are not done."""
    done = set(predictions.done)
    left = [source for source in sources if source.name not in done]
    with progress(None, arguments.verbose, NAME, _count(left, arguments)) as bar:
        frames = _frames(left, arguments, unread, bar)
        tracker = None, None  # a source and its tracker
        for group in _groups(frames, arguments.batch_size):
            for frame, found in zip(group, detect([frame.content for frame in group])):
                if found.get("status", "ok") != "ok":
                    unread.add(frame.source, f"the server says: {found['status']}")
                    continue
                if arguments.track and frame.source.is_video:
                    if tracker[0] is not frame.source:
                        tracker = frame.source, _tracker(frame.source, arguments)
                    tracker[1].update(found)
                predictions.add(frame, found)
            bar.update(len(group))


def _frames(sources, arguments, unread, bar):
    """Yields the `Frame`s of sources; what cannot be read is left out."""
    options = {"step": arguments.frame_step, "limit": arguments.max_frames}
    for source in sources:
        try:
            yield from source.frames(encoded=bool(arguments.server), **options)
        except (ValueError, OSError) as error:  # OSError: not ours to read
            unread.add(source, str(error))
            bar.update()


def _groups(frames, batch_size):
    """Lists of frames that are detected together: few enough for memory, and for a camera."""
    group, size = [], 0
    for frame in frames:
        group.append(frame)
        size += getattr(frame.content, "nbytes", 0)
        is_live = frame.source.kind == "camera"
        if is_live or len(group) >= READ_BATCHES * batch_size or size >= READ_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _count(sources, arguments):
    """How many frames there are; None if that is not known."""
    from keras_gflv2.inputs.videos import rate_of

    total = 0
    for source in sources:
        count = 1
        if source.is_video:
            try:
                count = rate_of(source.opened())[1]
            except ValueError:  # told when it is its turn
                count = 0
            count = count if count is None else math.ceil(count / arguments.frame_step)
            limits = [n for n in (count, arguments.max_frames) if n is not None]
            if not limits:
                return None
            count = min(limits)
        total += count
    return total


class Unreadable:
    """What is not an image: in folders it is skipped, what a user named is an error at the end."""

    def __init__(self):
        self.named, self.skipped = [], []

    def add(self, source, reason):
        """Takes note of a source that cannot be read."""
        if source.is_named:
            self.named.append(reason if source.name in reason else f"{source.name}: {reason}")
        else:
            self.skipped.append(pathlib.Path(source.name).name)

    def report(self, num_images):
        """Prints what was skipped.

        Raises:
            ValueError: there was no image, or something that the user named is none.
        """
        if self.skipped:
            some = ", ".join(self.skipped[:5]) + (", ..." if len(self.skipped) > 5 else "")
            print(f"Skipped {len(self.skipped)} files that are not images: {some}")
        if self.named:
            others = f" All others are done: {num_images}." if num_images else ""
            more = f" (and {len(self.named) - 1} more)" if len(self.named) > 1 else ""
            raise ValueError(f"{self.named[0]}{more}{others}")
        if not num_images:
            raise ValueError("There is no image in what was given: nothing to do.")

    def skipped_text(self):
        """The same for the last line."""
        return f" ({len(self.skipped)} files in folders are not images)" if self.skipped else ""


def _how_to_go_on(arguments, predictions):
    words = [word for word in arguments.argv if word != "--resume"]
    return (
        f"; {predictions.num_images} images are in {arguments.output}. Go on with: "
        f"{shlex.join(['keras-gflv2', *words, '--resume'])}"
    )


def _check_libraries(arguments, sources):
    """Raises ImportError if a library for videos is missing, before anything is done."""
    from keras_gflv2.inputs.videos import import_cv2

    if any(source.is_video for source in sources):
        import_cv2()
        if arguments.track:
            _tracker(None, arguments)


def _tracker(source, arguments):
    from keras_gflv2.cli.tracking import Tracker
    from keras_gflv2.inputs.videos import rate_of

    rate = rate_of(source.opened())[0] if source else 25.0
    return Tracker(rate / arguments.frame_step, arguments.score_threshold)


def _drawing(arguments):
    """Function from pixels and detections to a picture."""

    def draw(pixels, found):
        from keras_gflv2.visualization import draw_detections

        return draw_detections(
            pixels,
            found,
            draw_uncertainties=arguments.draw_uncertainties,
            draw_intervals=arguments.coverage is not None,
        )

    return draw


def _detector(arguments):
    """Function from images to what `detect` gives for each, by a model here or by a server; and the
    names of its classes, None of a server's."""
    options = {"coverage": arguments.coverage, "batch_size": arguments.batch_size}
    if arguments.tile:
        tile = arguments.tile if len(arguments.tile) == 2 else arguments.tile * 2
        options |= {"tile": tile, "overlap": arguments.overlap}
    if arguments.server:
        from keras_gflv2.serving.client import ServingClient

        if arguments.image_size:
            raise ValueError("--image-size is fixed when a model is exported; leave it out.")
        if arguments.tta or arguments.box_voting:
            raise ValueError("--tta and --box-voting need the model itself: --model, not --server.")
        model = ServingClient(arguments.server)
    else:
        model = with_views(load_model(arguments.model), arguments)
        options["image_size"] = tuple(arguments.image_size) if arguments.image_size else None
    return (
        lambda images: model.detect(images, arguments.score_threshold, **options),
        getattr(model, "class_names", None),
    )
