"""Where one part of a dataset is, whatever its form: what can be read and loaded."""

import dataclasses

from keras_gflv2.data.coco import load_coco, read_coco
from keras_gflv2.data.csv_files import load_csv, read_csv
from keras_gflv2.data.records import Report
from keras_gflv2.data.shapes import load_shapes, read_shapes
from keras_gflv2.data.tfds import load_tfds, read_tfds
from keras_gflv2.data.voc import load_voc, read_voc
from keras_gflv2.data.yolo import load_yolo, read_yolo


@dataclasses.dataclass(frozen=True)
class Source:
    """One part of a dataset.

    Attributes:
        kind: "coco", "csv", "shapes", "tfds", "voc" or "yolo".
        path: annotation file or folder; the name of a TFDS dataset.
        image_dir: folder of the images, for "coco" and "csv".
        split: name of the part; None for all.
        num_images: for "shapes".
    """

    kind: str
    path: str
    image_dir: str | None = None
    split: str | None = None
    num_images: int | None = None

    def __str__(self):
        path = None if self.kind == "shapes" else self.path
        parts = (self.kind, path, self.image_dir, self.split, self.num_images)
        return ":".join(str(part) for part in parts if part is not None)

    def load(self, **options):
        """The `tf.data.Dataset` of the loader of this kind; options are those of the loader."""
        if self.kind == "coco":
            return load_coco(self.path, self.image_dir, **options)
        if self.kind == "csv":
            return load_csv(self.path, self.image_dir, split=self.split, **options)
        if self.kind == "shapes":
            return load_shapes(self.split, num_images=self.num_images, **options)
        load = {"tfds": load_tfds, "voc": load_voc, "yolo": load_yolo}[self.kind]
        return load(self.path, self.split, **options)

    def read(self, class_names=None, keep_faults=False):
        """The `Annotations`, without the pictures.

        Args:
            class_names: as for the loaders.
            keep_faults: whether images that cannot be used are left out, and their errors kept in
                the `faults` of the report.
        """
        report = Report(str(self), keep_faults=keep_faults)
        if self.kind == "coco":
            return read_coco(self.path, self.image_dir, report, class_names)
        if self.kind == "csv":
            return read_csv(self.path, self.image_dir, report, self.split, class_names)
        if self.kind == "shapes":
            return read_shapes(self.split, report, self.num_images, class_names=class_names)
        read = {"tfds": read_tfds, "voc": read_voc, "yolo": read_yolo}[self.kind]
        return read(self.path, self.split, report, class_names=class_names)
