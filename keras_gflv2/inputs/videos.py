"""Frames of video files, streams and cameras, and video files of frames, by OpenCV."""

import os
import time
from pathlib import Path

import numpy as np

ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
CODEC = "mp4v"
DEFAULT_RATE = 25.0  # frames per second, where a camera does not tell


def import_cv2():
    """OpenCV.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "Videos and cameras need OpenCV: pip install 'keras-gflv2[video]'."
        ) from error
    return cv2


def open_video(opened):
    """A `cv2.VideoCapture` of a file, an address or the number of a camera.

    Raises:
        ValueError: OpenCV cannot open it.
    """
    cv2 = import_cv2()
    video = cv2.VideoCapture(opened)
    if not video.isOpened():
        if isinstance(opened, int):
            raise ValueError(f"There is no camera {opened}, or another program uses it.")
        raise ValueError(f"{opened} is not a video that OpenCV can read.")
    return video


def rate_of(opened):
    """Frames per second, and how many frames there are, None where that is not known."""
    cv2 = import_cv2()
    video = open_video(opened)
    try:
        rate, count = (video.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    rate = rate if np.isfinite(rate) and 0 < rate <= 1000 else DEFAULT_RATE
    return rate, int(count) if not isinstance(opened, int) and count > 0 else None


def read_frames(opened, step=1, limit=None):
    """Yields number, time in seconds and pixels (H, W, 3) RGB of frames.

    Args:
        opened: a file, an address or the number of a camera.
        step: every so many frames are given.
        limit: at most so many are.
    """
    cv2 = import_cv2()
    video = open_video(opened)
    rate = video.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
    is_live, start = isinstance(opened, int), time.monotonic()
    index = given = 0
    try:
        while (limit is None or given < limit) and video.grab():
            if index % step == 0:
                succeeded, pixels = video.retrieve()
                if not succeeded:
                    return
                seconds = time.monotonic() - start if is_live else index / rate
                yield index, seconds, np.ascontiguousarray(pixels[..., ::-1])
                given += 1
            index += 1
    finally:
        video.release()


class VideoFile:
    """A video file (MP4) that frames are added to.

    Args:
        path: of the file; another is replaced when this one is closed.
        rate: frames per second.
        follows_time: whether frames are repeated or left out so that each is shown at its time, as
            for cameras, whose frames come when they come.
    """

    def __init__(self, path, rate, follows_time=False):
        self.path, self.rate, self.follows_time = Path(path), rate, follows_time
        self._unfinished = self.path.with_name("." + self.path.name)
        self._cv2 = import_cv2()
        self._writer, self._size, self._count = None, None, 0

    def add(self, pixels, seconds):
        """Adds a frame (H, W, 3) RGB; the size is that of the first one."""
        height, width = pixels.shape[:2]
        if self._writer is None:
            # Codecs want even sides.
            self._size = (max(width - width % 2, 2), max(height - height % 2, 2))
            code = self._cv2.VideoWriter_fourcc(*CODEC)
            self._writer = self._cv2.VideoWriter(str(self._unfinished), code, self.rate, self._size)
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write the video {self.path}.")
        if (width, height) != self._size:
            pixels = self._cv2.resize(pixels, self._size)
        until = round(seconds * self.rate) + 1 if self.follows_time else self._count + 1
        for _ in range(self._count, until):
            self._writer.write(np.ascontiguousarray(pixels[..., ::-1]))
        self._count = max(self._count, until)

    def close(self):
        """Ends the file."""
        if self._writer is not None:
            self._writer.release()
            os.replace(self._unfinished, self.path)
