"""Few canvases for images of many sizes, where the network is compiled for each canvas.

In: the size of the canvas that an image needs, one image after the other. Out: the canvas that it
is run in, which may be larger; layers see nothing of the rest (`layers/own_canvas.py`).
"""

import collections
import math

from keras_gflv2.boxes import ceil_divide
from keras_gflv2.grid import padded

# Relative to the area that an image needs: how large its canvas may be; and how large the first of
# a model, which may be the only one that its images need.
LARGEST_AREA = 1.6
LARGEST_FIRST_AREA = 1.15
COARSE_MULTIPLE = 128
# A compilation takes about as long as some tens to hundreds of images. It is worth it where the
# images of one size would have taken as long, in larger canvases than they need, ...
WASTED_IMAGES = 50
# ... or where images of one canvas, one after another, fill so many batches.
SINGLE_BATCHES = 32


class CanvasPlan:
    """Chooses canvases of which few are compiled, and own ones for sizes that come often."""

    def __init__(self):
        self._compiled = set()  # (height, width) of canvases
        self._wasted = collections.Counter()  # images of each size that waste would have run
        self._images = collections.Counter()  # that ran in each canvas

    def choose(self, own, image_size):
        """The canvas for one image, which holds its own canvas.

        Args:
            own: height and width of its own canvas in pixels.
            image_size: (short side, longest long side) in pixels of most images.
        """
        canvas = self._compiled_for(own)
        if canvas is None:
            largest = LARGEST_AREA if self._compiled else LARGEST_FIRST_AREA
            canvas = next(
                c for c in _generous(own, image_size) if _relative_area(c, own) <= largest
            )
        self._wasted[own] += _relative_area(canvas, own) - 1
        if self._wasted[own] > WASTED_IMAGES:
            canvas = own
        self._compiled.add(canvas)
        return canvas

    def runs_together(self, canvas, images, batch_size):
        """Whether images of a canvas run in batches, for which it is compiled once more.

        Args:
            canvas: height and width.
            images: number of images that are about to run.
            batch_size: of a whole batch.
        """
        self._images[canvas] += images
        return self._images[canvas] > SINGLE_BATCHES * batch_size

    def _compiled_for(self, own):
        """The smallest compiled canvas that is not much larger, or None."""
        holding = [c for c in self._compiled if _holds(c, own)]
        canvas = min(holding, key=lambda c: (math.prod(c), c), default=None)
        if canvas is None or _relative_area(canvas, own) > LARGEST_AREA:
            return None
        return canvas


def _generous(own, image_size):
    """Canvases that hold an image and others like it, the largest first, its own last."""
    short, longest = (padded(side) for side in image_size)
    upright = own[0] > own[1]
    whole = (longest, short) if upright else (short, longest)
    coarse = [ceil_divide(side, COARSE_MULTIPLE) * COARSE_MULTIPLE for side in own]
    within = tuple(max(min(pair), side) for *pair, side in zip(coarse, whole, own))
    return [canvas for canvas in (whole, within) if _holds(canvas, own)] + [tuple(own)]


def _holds(canvas, own):
    return canvas[0] >= own[0] and canvas[1] >= own[1]


def _relative_area(canvas, own):
    return math.prod(canvas) / math.prod(own)
