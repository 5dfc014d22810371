"""Where images to look at come from: files, folders, patterns, addresses, videos, cameras.

In: what a user names. Out: `Source`s, which give `Frame`s: of an image one, of a video many. None
of it needs Keras.
"""

from keras_gflv2.inputs.sources import Frame, Source, find_sources

__all__ = ["Frame", "Source", "find_sources"]
