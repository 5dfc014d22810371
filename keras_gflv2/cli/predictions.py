"""What `predict` writes: pictures, videos, JSON, CSV, YOLO's text files and crops, as they come."""

import contextlib
import csv
import json
import os
import re

from keras_gflv2.cli.arguments import write_json

FORMATS = {
    "pictures": "with boxes, and videos",
    "json": "detections.json, which is always written",
    "csv": "detections.csv",
    "yolo": "labels/NAME.txt, and classes.txt",
    "crops": "crops/CLASS/NAME_1.jpg",
}
RECORD = "interrupted.json"
SIDES = ("left", "top", "right", "bottom")
# Columns of detections.csv; the first six are those of a data set in CSV.
COLUMNS = (
    *("path", "xmin", "ymin", "xmax", "ymax", "class", "confidence", "frame", "track_id"),
    *(f"uncertainty_{side}" for side in SIDES),
)


class Predictions:
    """The folder that `predict` writes to.

    What is there when it is closed is whole: the lists have all images that were added.

    Args:
        folder: path of the folder, made when something is added.
        formats: which of `FORMATS`; detections.json is there in any case.
        settings: dictionary of what the detections depend on; a run is resumed with the same.
        draw: function from pixels and detections to a PIL image.
        frame_step: every so many frames of videos are added.

    Attributes:
        done: names of the sources that are complete.
        num_images, num_detections: how many there are.
    """

    def __init__(self, folder, formats, settings, draw, frame_step=1):
        self.folder, self.formats, self._settings = folder, formats, settings
        self._draw, self._frame_step = draw, frame_step
        self.done, self.num_images, self.num_detections = [], 0, 0
        self._lists, self._video, self._source = [], None, None

    def check(self, sources):
        """Raises ValueError if a picture would take the place of an image."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(
                f"--output {self.folder} is a file. Name a folder for pictures and detections."
            )
        files = {os.path.realpath(source.name) for source in sources}
        targets = [self._picture_path(source) for source in sources]
        for target in targets if "pictures" in self.formats else ():
            if os.path.realpath(target) in files:
                raise ValueError(
                    f"--output {self.folder} is where the images are: {target} would be "
                    "overwritten. Choose another folder."
                )

    def open(self, resume=False, class_names=None):
        """Begins; with `resume` after what an interrupted run has done.

        Args:
            resume: whether to go on.
            class_names: of the detector, for classes.txt beside YOLO's labels; None if unknown.

        Raises:
            ValueError: there is no such run, or it had other settings.
        """
        kept = self._read_record() if resume else []
        self.folder.mkdir(parents=True, exist_ok=True)
        kinds = (_JsonList, _CsvList) if "csv" in self.formats else (_JsonList,)
        if "yolo" in self.formats and class_names:
            text = "".join(f"{name}\n" for name in class_names)
            (self.folder / "classes.txt").write_text(text, encoding="utf-8")
        self._lists = [kind(self.folder, kept) for kind in kinds]

    def add(self, frame, found):
        """Writes what was found in a `Frame`."""
        if frame.source is not self._source:
            self._end_source()
            self._source = frame.source
        for one in self._lists:
            one.add(results_of_frame(found, self.num_images, frame))
        if "yolo" in self.formats:
            self._write_yolo(frame, found)
        if "crops" in self.formats:
            self._write_crops(frame, found)
        if "pictures" in self.formats:
            self._write_picture(frame, found)
        self.num_images += 1
        self.num_detections += len(found["boxes"])
        if not frame.source.is_video:
            self._end_source()

    def close(self, is_complete):
        """Ends all files; without the rest, `open(resume=True)` goes on. Of a run that has done
        nothing yet no file is left."""
        if not is_complete and not self.num_images:
            for one in self._lists:
                one.discard()
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it is empty
            return
        if is_complete:
            self._end_source()
        elif self._video is not None:
            self._video.close()
        for one in self._lists:
            one.close()
        record = self.folder / RECORD
        if is_complete:
            record.unlink(missing_ok=True)
        else:
            counts = {"done": self.done, "num_images": self.num_images}
            write_json(record, {**counts, "settings": self._settings})

    def _end_source(self):
        """Ends the video of the last source; an image needs none."""
        if self._source is not None:
            self.done.append(self._source.name)
        if self._video is not None:
            self._video.close()
        self._source = self._video = None

    def _read_record(self):
        """Results of the sources that an interrupted run has done."""
        path = self.folder / RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            done, settings = list(record["done"]), dict(record["settings"])
            num_images = int(record["num_images"])
        except FileNotFoundError:
            raise ValueError(
                f"There is nothing to resume in {self.folder}: {path} does not exist. Leave out "
                "--resume."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: start without --resume.") from error
        current = json.loads(json.dumps(self._settings))
        changed = [name for name in current if current[name] != settings.get(name)]
        if changed:
            raise ValueError(
                f"--{changed[0].replace('_', '-')} was {settings.get(changed[0])!r} when the run "
                f"in {self.folder} began: it cannot change with --resume."
            )
        results = json.loads((self.folder / _JsonList.NAME).read_text(encoding="utf-8"))
        kept = [result for result in results if result["file_name"] in set(done)]
        self.done, self.num_images, self.num_detections = done, num_images, len(kept)
        return kept

    def _write_picture(self, frame, found):
        picture = self._draw(frame.read(), found)
        path = self._picture_path(frame.source)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not frame.source.is_video:
            picture.save(path)
            return
        import numpy as np

        from keras_gflv2.inputs.videos import VideoFile, rate_of

        if self._video is None:
            rate = rate_of(frame.source.opened())[0] / self._frame_step
            self._video = VideoFile(path, rate, follows_time=frame.source.kind == "camera")
        self._video.add(np.asarray(picture), frame.seconds)

    def _picture_path(self, source):
        suffix = ".mp4" if source.is_video else source.picture_suffix
        return self.folder / f"{source.target}{suffix}"

    def _write_yolo(self, frame, found):
        """A line for each object: class, center and size as fractions of the image."""
        path = self.folder / "labels" / f"{_target_of(frame)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = frame.read().shape[:2]
        lines = []
        for label, (x1, y1, x2, y2) in zip(found["classes"].tolist(), found["boxes"].tolist()):
            center = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            size = (x2 - x1) / width, (y2 - y1) / height
            lines.append(" ".join([str(label), *(f"{value:.6f}" for value in (*center, *size))]))
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def _write_crops(self, frame, found):
        """A picture of each object, in a folder for its class."""
        from PIL import Image

        pixels = frame.read()
        for number, (name, box) in enumerate(zip(found["class_names"], found["boxes"]), start=1):
            left, top, right, bottom = (round(side) for side in box.tolist())
            crop = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
            if crop.size:
                folder = self.folder / "crops" / re.sub(r"[^\w .-]", "_", name)
                path = folder / f"{_target_of(frame)}_{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(crop).save(path, quality=95)


def results_of_frame(found, image_id, frame):
    """COCO's results; "uncertainties", standard deviations of left, top, right and bottom; and
    "intervals", lower and upper ends for these sides; of videos "frame", "seconds" and, of tracked
    objects, "track_id"."""
    moment = {}
    if frame.index is not None:
        moment = {"frame": frame.index, "seconds": round(frame.seconds, 3)}
    results = [
        {
            "image_id": image_id,
            "file_name": frame.source.name,
            **moment,
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
    for result, track_id in zip(results, found.get("track_ids", ())):
        if track_id >= 0:
            result["track_id"] = int(track_id)
    return results


def _target_of(frame):
    """Relative path without an ending: of a video with the number of the frame."""
    target = frame.source.target
    return target if frame.index is None else f"{target}_{frame.index:06d}"


class _JsonList:
    """detections.json: a list with a line for each detection."""

    NAME = "detections.json"

    def __init__(self, folder, kept):
        self._path, self._is_empty = folder / self.NAME, True
        self._unfinished = self._path.with_name("." + self.NAME)
        self._file = self._unfinished.open("w", encoding="utf-8", newline="")
        self._begin()
        self.add(kept)

    def _begin(self):
        self._file.write("[")

    def add(self, results):
        for result in results:
            self._file.write(("\n" if self._is_empty else ",\n") + json.dumps(result))
            self._is_empty = False

    def close(self):
        self._end()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._unfinished, self._path)

    def discard(self):
        self._file.close()
        self._unfinished.unlink()

    def _end(self):
        self._file.write("\n]\n")


class _CsvList(_JsonList):
    """detections.csv: a row for each detection."""

    NAME = "detections.csv"

    def _begin(self):
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def add(self, results):
        for result in results:
            x, y, width, height = result["bbox"]
            sides = [round(side, 3) for side in (x, y, x + width, y + height)]
            about = [result["category_name"], round(result["score"], 5)]
            video = [result.get("frame", ""), result.get("track_id", "")]
            spread = [round(side, 3) for side in result.get("uncertainties", ())]
            row = [result["file_name"], *sides, *about, *video, *spread]
            self._writer.writerow(row + [""] * (len(COLUMNS) - len(row)))

    def _end(self):
        pass
