"""Where images come from: folders, patterns, addresses, videos."""

import functools
import http.server
import threading

import numpy as np
import pytest
from PIL import Image

from keras_gflv2.inputs import addresses, find_sources, videos


@pytest.fixture
def folder(tmp_path):
    """a.jpg, b.PNG, sub/a.jpg, sub/deep/c.png, notes.txt, and hidden ones."""
    for name in ("a.jpg", "b.PNG", "sub/a.jpg", "sub/deep/c.png", ".hidden/d.jpg", "sub/.e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (len(name), 0, 0)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def targets(*names, output=None):
    return [str(source.target) for source in find_sources(names, output)]


def test_a_folder_is_all_that_is_in_it(folder):
    assert targets(folder) == ["a", "b", "notes", "sub/a", "sub/deep/c"]
    assert not any(source.is_named for source in find_sources([folder]))
    # What an earlier run wrote there is no input; but of the folder itself all is.
    assert targets(folder, output=folder / "sub") == ["a", "b", "notes"]
    assert targets(folder / "sub", output=folder / "sub") == ["a", "deep/c"]


def test_patterns_keep_the_folders_beyond_them(folder):
    assert targets(f"{folder}/**/*.png") == ["sub/deep/c"]
    assert targets(f"{folder}/*/a.*") == ["sub/a"]
    with pytest.raises(FileNotFoundError, match="No file fits"):
        find_sources([f"{folder}/*.gif"])


def test_each_file_is_there_once_under_a_name_of_its_own(folder):
    again = find_sources([folder / "a.jpg", folder, folder / "sub" / "a.jpg"])
    assert len(again) == 5 and again[0].is_named
    same = find_sources([folder / "a.jpg", folder / "sub" / "a.jpg"])
    assert [str(source.target) for source in same] == ["a", "a_2"]


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg does not exist"):
        find_sources([folder / "none.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in"):
        find_sources([tmp_path / "empty"])
    with pytest.raises(ValueError, match="camera:0"):
        find_sources(["camera:front"])


def test_an_image_is_one_frame(folder):
    (source,) = find_sources([folder / "a.jpg"])
    (frame,) = source.frames()
    assert frame.content.shape == (6, 8, 3) and frame.index is None
    (frame,) = source.frames(encoded=True)
    assert frame.content == source.name and frame.read().shape == (6, 8, 3)


# === Addresses ===


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/short.jpg":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def site(folder):
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_is_an_image(site, folder):
    (source,) = find_sources([f"{site}/sub/a.jpg?size=large"])
    assert (str(source.target), source.picture_suffix) == ("a", ".jpg")
    (frame,) = source.frames()
    assert frame.content.shape == (6, 8, 3)
    assert addresses.fetch(f"{site}/to//a.jpg") == (folder / "a.jpg").read_bytes()


@pytest.mark.parametrize(
    "path, message",
    [
        ("none.jpg", "answers 404"),
        ("notes.txt", "is not an image: its server calls it text/plain"),
        ("short.jpg", "cannot be had"),
        ("to/file:///etc/passwd", "not allowed"),
    ],
)
def test_what_is_no_image_is_refused(site, path, message):
    with pytest.raises((ValueError, OSError), match=message):
        addresses.fetch(f"{site}/{path}")


def test_large_files_are_refused(site, monkeypatch):
    monkeypatch.setattr(addresses, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="accepted"):
        addresses.fetch(f"{site}/a.jpg")
    with pytest.raises(OSError, match=r"cannot be had"):
        addresses.fetch("http://127.0.0.1:1/a.jpg")


# === Videos ===


def test_a_video_is_written_and_read(tmp_path):
    """12 frames of growing gray, 20 a second; sides are odd, which codecs do not take."""
    pytest.importorskip("cv2")
    path = tmp_path / "gray.mp4"
    file = videos.VideoFile(path, rate=20)
    for index in range(12):
        file.add(np.full((65, 97, 3), 20 * index, "uint8"), index / 20)
    assert not path.exists()  # not before it is whole
    file.close()
    assert videos.rate_of(str(path)) == (20, 12)
    (source,) = find_sources([path])
    assert source.kind == "video"
    frames = list(source.frames(step=3, limit=3))
    assert [frame.index for frame in frames] == [0, 3, 6]
    np.testing.assert_allclose([frame.seconds for frame in frames], [0, 0.15, 0.3])
    assert frames[0].content.shape == (64, 96, 3)
    levels = [frame.content.mean() for frame in frames]
    np.testing.assert_allclose(levels, [0, 60, 120], atol=6)


def test_frames_of_a_camera_are_shown_at_their_times(tmp_path):
    """One that comes a second late is there for a second."""
    pytest.importorskip("cv2")
    file = videos.VideoFile(tmp_path / "live.mp4", rate=10, follows_time=True)
    for seconds in (0.0, 1.0, 1.1):
        file.add(np.zeros((64, 64, 3), "uint8"), seconds)
    file.close()
    assert videos.rate_of(str(tmp_path / "live.mp4")) == (10, 12)


def test_what_is_no_video_is_named(tmp_path):
    pytest.importorskip("cv2")
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"a\.mp4 is not a video"):
        videos.open_video(str(tmp_path / "a.mp4"))
    with pytest.raises(ValueError, match="no camera 77"):
        videos.open_video(77)
