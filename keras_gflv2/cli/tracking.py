"""Objects of videos with the same number in all frames, by the library trackers (ByteTrack)."""

import numpy as np


class Tracker:
    """ByteTrack (Zhang et al., 2022) for one video.

    Args:
        rate: frames per second that it is shown.
        threshold: confidence from which a detection begins a track: that of the detections, all of
            which are matched by their boxes in the first of ByteTrack's two stages.

    Raises:
        ImportError: the library is not installed.
    """

    def __init__(self, rate, threshold):
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise ImportError(
                "--track needs the library trackers: pip install 'keras-gflv2[tracking]'."
            ) from error
        self._tracker = ByteTrackTracker(
            frame_rate=rate,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
        )

    def update(self, found):
        """Adds "track_ids" (n,) to the `Detections` of the next frame: -1 before an object was seen
        in two frames."""
        seen = found.to_supervision()
        seen.data["row"] = np.arange(len(seen))
        tracked = self._tracker.update(seen)
        found["track_ids"] = np.full(len(seen), -1)
        if len(tracked):
            found["track_ids"][tracked.data["row"]] = tracked.tracker_id
        return found
