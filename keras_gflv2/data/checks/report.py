"""What a check of a dataset found, as objects, as text and as JSON."""

import dataclasses

from keras_gflv2.data.records import MESSAGES

SEVERITIES = ("error", "warning", "note")
SHOWN = 5  # items of a finding in the text; the JSON has up to `KEPT`
KEPT = 200


def counted(number, one, several):
    """ "1 file is missing" or "3 files are missing"."""
    return f"{number} {one if number == 1 else several}"


@dataclasses.dataclass
class Finding:
    """One thing that was found.

    Attributes:
        severity: "error" for what would spoil a training or its scores, "warning" for what may,
            "note" for what is good to know.
        code: a name for programs, such as "shared_images".
        message: what was found, in one sentence.
        items: list of str, the images or classes concerned.
        advice: what to do about it.
        images: (split, index) of the images concerned, for the contact sheet.
    """

    severity: str
    code: str
    message: str
    items: list = dataclasses.field(default_factory=list)
    advice: str = ""
    images: list = dataclasses.field(default_factory=list)

    def __str__(self):
        shown = ", ".join(item.removesuffix(".") for item in self.items[:SHOWN])
        more = f", and {len(self.items) - SHOWN} more" if len(self.items) > SHOWN else ""
        text = self.message + (f": {shown}{more}" if shown else "") + "."
        return text + (f" {self.advice}" if self.advice else "")

    def as_dict(self):
        """For JSON."""
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "count": len(self.items),
            "items": self.items[:KEPT],
            "advice": self.advice,
        }


@dataclasses.dataclass
class DataReport:
    """What a check of a dataset found.

    Attributes:
        parts: {split: `Annotations`} that were checked.
        findings: list of `Finding`, the worst first.
        counts: {split: {"images", "boxes", "images_without_boxes", "ignored", "classes": {name:
            boxes}, "images_of_class": {name: images}}}
        sizes: percentiles of the boxes at the training size, and how many each level has.
        suggestion: {"image_size": [short, long], "recipe", "options"}
        settings: what the check was made with.
    """

    parts: dict
    findings: list
    counts: dict
    sizes: dict
    suggestion: dict
    settings: dict

    @property
    def ok(self):
        """Whether nothing was found that would spoil a training."""
        return not any(finding.severity == "error" for finding in self.findings)

    def of(self, code):
        """The findings of a code."""
        return [finding for finding in self.findings if finding.code == code]

    def as_dict(self):
        """For JSON."""
        return {
            "ok": self.ok,
            "settings": self.settings,
            "counts": self.counts,
            "sizes": self.sizes,
            "findings": [finding.as_dict() for finding in self.findings],
            "suggestion": self.suggestion,
        }

    def summary(self):
        """One paragraph, as `train` prints it; without what the loaders have warned of."""
        found = [finding for finding in self.findings if finding.code not in MESSAGES]
        totals = "; ".join(
            f"{_name(split)} {count['images']} images, {count['boxes']} boxes"
            for split, count in self.counts.items()
        )
        said = [str(finding) for finding in found if finding.severity != "note"]
        text = f"Data: {totals}. "
        return text + (" ".join(said) if said else "Nothing in the annotations looks wrong.")

    def contact_sheet(self):
        """A PIL image of what was found, and of a few pictures of each class."""
        from keras_gflv2.data.checks.contact_sheet import draw_contact_sheet

        return draw_contact_sheet(self)

    def __str__(self):
        return "\n".join(
            [
                *_count_lines(self.counts),
                "",
                *_size_lines(self.sizes),
                "",
                *_finding_lines(self.findings),
                "",
                *_suggestion_lines(self.suggestion),
            ]
        )


def _name(split):
    return split or "all"


def _count_lines(counts):
    """A table of the boxes of each class in each split."""
    names = list(dict.fromkeys(name for count in counts.values() for name in count["classes"]))
    width = max([len("images without boxes"), *(len(name) for name in names)])
    columns = [max(8, len(_name(split))) for split in counts]

    def line(title, values):
        cells = (f"{value:>{column}}" for value, column in zip(values, columns))
        return f"{title:<{width}}  " + "  ".join(cells)

    lines = [line("", [_name(split) for split in counts])]
    for key in ("images", "images_without_boxes", "boxes", "ignored"):
        title = "crowd or difficult" if key == "ignored" else key.replace("_", " ")
        lines.append(line(title, [count[key] for count in counts.values()]))
    lines.append("boxes by class")
    lines += [
        line(f"  {name}"[:width], [count["classes"].get(name, 0) for count in counts.values()])
        for name in names
    ]
    return lines


def _size_lines(sizes):
    if not sizes:
        return []
    short, longest = sizes["image_size"]
    side, aspect = sizes["side"], sizes["aspect_ratio"]
    levels = ", ".join(f"stride {stride}: {count}" for stride, count in sizes["levels"].items())
    return [
        f"At the training size ({short}, {longest}) the boxes have a side (root of the area) of "
        f"{side['1%']:.0f} to {side['99%']:.0f} pixels, median {side['50%']:.0f}, and a ratio of "
        f"width to height of {aspect['1%']:.2f} to {aspect['99%']:.2f}, median "
        f"{aspect['50%']:.2f}.",
        f"Boxes by the level whose anchors are of their area: {levels}.",
    ]


def _finding_lines(findings):
    if not findings:
        return ["Nothing looks wrong."]
    return [f"{finding.severity}: {finding}" for finding in findings]


def _suggestion_lines(suggestion):
    if not suggestion:
        return []
    short, longest = suggestion["image_size"]
    command = " ".join([f"--image-size {short} {longest}", *suggestion["options"]])
    return [f"Suggested: keras-gflv2 train ... {command}", *suggestion["reasons"]]
