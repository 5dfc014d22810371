"""A folder in Pascal VOC's form to walk with: one folder of images, one of XML files, no lists.

    python examples/walks/make_voc_folder.py my_data

Takes the blood cells of BCCD where they are (`--bccd`, by default ../shared/data/bccd beside the
clone) and draws circles, squares and triangles where they are not.
"""

import argparse
import shutil
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from keras_gflv2.cli.screen import quiet_libraries

BCCD = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd"
SIZE = (240, 320)  # height and width of what is drawn
OBJECTS = (5, 12)  # fewest and most in a picture


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--images", type=int, default=292, help="how many, at most")
    parser.add_argument("--bccd", type=Path, default=BCCD, help="folder of the BCCD dataset")
    given = parser.parse_args(arguments)
    for name in ("images", "annotations"):
        (given.output / name).mkdir(parents=True, exist_ok=True)
    is_there = (given.bccd / "Annotations").is_dir()
    count = copy_cells(given) if is_there else draw_shapes(given)
    what = f"blood cells from {given.bccd}" if is_there else "drawn shapes"
    print(f"Wrote {count} images ({what}) with their XML files to {given.output}")


def copy_cells(given):
    files = sorted((given.bccd / "Annotations").glob("*.xml"))[: given.images]
    for file in files:
        shutil.copyfile(file, given.output / "annotations" / file.name)
        image = f"{file.stem}.jpg"
        shutil.copyfile(given.bccd / "JPEGImages" / image, given.output / "images" / image)
    return len(files)


def draw_shapes(given):
    from keras_gflv2.data.records import Report
    from keras_gflv2.data.shapes import read_shapes

    found = read_shapes("walk", Report("shapes:walk"), given.images, SIZE, OBJECTS)
    for index, record in enumerate(found.records):
        image = f"picture_{index:03d}.jpg"
        Image.fromarray(record.image()).save(given.output / "images" / image, quality=95)
        names = [found.class_names[label] for label in record.classes]
        tree = annotation(image, zip(names, record.boxes))
        tree.write(given.output / "annotations" / f"picture_{index:03d}.xml", encoding="utf-8")
    return len(found.records)


def annotation(image, objects):
    """The XML file of an image."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = image
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("height", "width", "depth"), (*SIZE, 3)):
        ElementTree.SubElement(size, name).text = str(value)
    for name, (left, top, right, bottom) in objects:
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = name
        ElementTree.SubElement(entry, "difficult").text = "0"
        box = ElementTree.SubElement(entry, "bndbox")
        sides = {"xmin": left, "ymin": top, "xmax": right, "ymax": bottom}
        for side, value in sides.items():
            ElementTree.SubElement(box, side).text = f"{value:.2f}"
    ElementTree.indent(root)
    return ElementTree.ElementTree(root)


if __name__ == "__main__":
    with quiet_libraries():
        main()
