"""Videos written and read again; what is no video; numbered files; a camera that is none."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from maskrcnn_jax.predict import video
from maskrcnn_jax.predict.sources import Source

pytest.importorskip("av", reason="the package av is not installed")

_RED, _BLUE = (255, 0, 0), (0, 0, 255)


def _picture(x: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A blue picture with a red bar from column x on."""
    picture = np.full((height, width, 3), _BLUE, np.uint8)
    picture[:, x : x + 8] = _RED
    return picture


def _write(path, pictures, times, rate=25.0):
    writer = video.VideoWriter(path, rate)
    for picture, seconds in zip(pictures, times, strict=True):
        writer.write(picture, seconds)
    writer.close()


def _read(place, kind="video", read=None, max_pixels=10**6):
    with video.opened(Source(kind, str(place), "a"), read, max_pixels, None) as film:
        return film, list(film.frames)


def test_frames_keep_their_pixels_and_times(tmp_path):
    path, times = tmp_path / "deep" / "a.mp4", [0, 0.04, 0.5, 0.51, 2]
    _write(path, [_picture(8 * i) for i in range(5)], times)
    film, frames = _read(path)
    assert film.total == 5
    assert not film.has_sound
    np.testing.assert_allclose([frame.seconds for frame in frames], times, atol=1e-3)
    for i, frame in enumerate(frames):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - _picture(8 * i)).mean() < 12  # it is compressed
        assert (frame.image[:, 8 * i + 2 : 8 * i + 6, 0] > 180).all()
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_odd_sides_grow_by_a_pixel(tmp_path):
    _write(tmp_path / "a.mp4", [_picture(0, 47, 63)], [0])
    assert _read(tmp_path / "a.mp4")[1][0].image.shape == (48, 64, 3)


def test_times_that_do_not_grow_are_moved(tmp_path):
    _write(tmp_path / "a.mp4", [_picture(0), _picture(8)], [0.2, 0.2])
    first, second = (frame.seconds for frame in _read(tmp_path / "a.mp4")[1])
    assert first < second < 0.21 + first


def test_without_a_picture_there_is_no_file(tmp_path):
    _write(tmp_path / "a.mp4", [], [])
    assert list(tmp_path.iterdir()) == []


def test_a_telephone_s_video_is_turned_upright(tmp_path):
    """It is stored lying, with a matrix that turns it by a quarter, clockwise."""
    path = tmp_path / "a.mp4"
    picture = _picture(0)
    picture[:20, 32:] = 255
    _write(path, [picture], [0])
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    assert struct.unpack(">9i", content[matrix : matrix + 36])[:5] == (one, 0, 0, 0, one)
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    path.write_bytes(content)
    ((upright, _),) = _read(path)[1]
    assert upright.shape == (64, 48, 3)
    expected = np.rot90(picture, -1).astype(int)
    assert np.abs(upright - expected).mean() < 12
    assert np.abs(upright - np.rot90(picture)).mean() > 50


@pytest.mark.parametrize(
    ("codec", "suffix"), [("MJPG", ".avi"), ("VP80", ".webm"), ("mp4v", ".mov")]
)
def test_videos_of_other_programs(tmp_path, codec, suffix):
    path = tmp_path / f"a{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for i in range(3):
        writer.write(_picture(8 * i)[..., ::-1])
    writer.release()
    film, frames = _read(path)
    assert film.rate == pytest.approx(10)
    np.testing.assert_allclose([frame.seconds for frame in frames], [0, 0.1, 0.2], atol=1e-3)
    assert np.abs(frames[2].image.astype(int) - _picture(16)).mean() < 20


def test_what_is_no_video_is_refused(tmp_path):
    _write(tmp_path / "a.mp4", [_picture(i) for i in range(8)], np.arange(8) / 25)
    content = (tmp_path / "a.mp4").read_bytes()
    # A list of other files, which FFmpeg would open, is none either.
    playlist = f"#EXTM3U\n#EXTINF:10,\n{tmp_path / 'a.mp4'}\n#EXT-X-ENDLIST\n".encode()
    for wrong in (b"", b"no video", content[: len(content) // 2], playlist):
        (tmp_path / "b.mp4").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"b\.mp4 is not a readable video, or is truncated"):
            _read(tmp_path / "b.mp4")
    with pytest.raises(ValueError, match=r"a\.mp4 has frames of 64 x 48 pixels, more than the 100"):
        _read(tmp_path / "a.mp4", max_pixels=100)
    with pytest.raises(ValueError, match=r"gone\.mp4 is not .*No such file"):
        _read(tmp_path / "gone.mp4")


def test_numbered_files_are_a_video(tmp_path):
    sizes = {"1": (4, 6), "2": (4, 6), "10": (4, 7)}

    def read(path):
        number = path.rpartition("_")[2].removesuffix(".png")
        return np.full((*sizes[number], 3), int(number), np.uint8)

    for number in ("1", "2"):
        (tmp_path / f"f_{number}.png").write_bytes(b"")
    with video.opened(Source("sequence", f"{tmp_path}/f_%d.png", ""), read, 100, 10.0) as film:
        frames = list(film.frames)
    assert film[1:] == (10.0, 2, False)
    assert [(frame.image[0, 0, 0], frame.seconds) for frame in frames] == [(1, 0), (2, 0.1)]
    (tmp_path / "f_10.png").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"f_10\.png has 7 x 4 pixels and the frames before it 6 x 4"
    ):
        _read(f"{tmp_path}/f_%d.png", "sequence", read)


class _Camera:
    """A device that shows three pictures."""

    def __init__(self, number):
        self.number, self.left, self.is_released = number, 3, False

    def isOpened(self):
        return self.number == 0

    def get(self, what):
        return 0.0  # as many drivers say of the rate

    def read(self):
        self.left -= 1
        return self.left >= 0, _picture(0)[..., ::-1]

    def release(self):
        self.is_released = True


def test_a_camera(monkeypatch):
    made = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda n: made.append(_Camera(n)) or made[-1])
    now = iter((100.0, 100.5, 100.75, 102.0))
    monkeypatch.setattr(video, "time", SimpleNamespace(monotonic=lambda: next(now)))
    film, frames = _read("0", "camera")
    assert film.rate == 25
    assert [frame.seconds for frame in frames] == [0.5, 0.75, 2.0]
    np.testing.assert_array_equal(frames[0].image, _picture(0))
    with pytest.raises(ValueError, match="camera:7 cannot be opened"):
        _read("7", "camera")
    assert all(camera.is_released for camera in made)


def test_sound_is_told_of(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as film:
        pictures, sound = film.add_stream("mpeg4", rate=10), film.add_stream("aac", rate=44_100)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 44_100
        film.mux(pictures.encode(av.VideoFrame.from_ndarray(_picture(0), format="rgb24")))
        for stream, frames in ((sound, [silence, None]), (pictures, [None])):
            for frame in frames:
                film.mux(stream.encode(frame))
    film, frames = _read(tmp_path / "a.mkv")
    assert film.has_sound
    assert len(frames) == 1
