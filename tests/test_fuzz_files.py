"""Damaged files of every kind: whatever a reader makes of them, it raises nothing but its errors.

Slow; `MASKRCNN_JAX_MUTATIONS=10000` sets how many mutations each kind gets.
"""

import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import image_size, read_image
from maskrcnn_jax.images.read_masks import read_mask
from maskrcnn_jax.pretrained.files.weight_files import read_weights

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("MASKRCNN_JAX_MUTATIONS", "2000"))
MAX_PIXELS = 1_000_000
PICTURE = np.random.default_rng(3).integers(0, 256, (24, 20, 3), np.uint8)


def mutated(content: bytes, count: int) -> Iterator[bytes]:
    """Yields damaged copies: bytes changed, cut off, doubled or moved; the same ones each time."""
    rng = np.random.default_rng(len(content))
    for _ in range(count):
        changed = bytearray(content)
        kind = rng.integers(5)
        first, second = sorted(rng.integers(0, len(content) + 1, 2))
        if kind == 0:
            del changed[first:]
        elif kind == 1:
            changed[first:first] = changed[first : min(second, first + 64)]
        elif kind == 2:
            del changed[first : min(second, first + 64)]
        else:  # most of a format's decisions are in its first bytes
            most = len(content) if kind == 3 else min(200, len(content))
            for place in rng.integers(0, most, rng.integers(1, 6)):
                changed[place] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        yield bytes(changed)


def saved(name: str, **options) -> bytes:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(stream, name, exif=exif, **options)
    return stream.getvalue()


def as_tiff(array: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def as_npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, PICTURE)
    return stream.getvalue()


IMAGES: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved("PNG"),
    "jpeg": lambda: saved("JPEG"),
    "webp": lambda: saved("WEBP"),
    "gif": lambda: saved("GIF"),
    "bmp": lambda: saved("BMP"),
    "ppm": lambda: saved("PPM"),
    "tga": lambda: saved("TGA"),
    "jpeg 2000": lambda: saved("JPEG2000"),
    "tiff of Pillow": lambda: saved("TIFF"),
    "tiff, lzw": lambda: saved("TIFF", compression="tiff_lzw"),
    "tiff, packbits": lambda: saved("TIFF", compression="packbits"),
    "tiff of 5 channels": lambda: as_tiff(
        np.dstack([PICTURE, PICTURE[..., :2]]), photometric="rgb", compression="deflate"
    ),
    "tiff of 16 bits": lambda: as_tiff(PICTURE[..., 0].astype(np.uint16) * 257),
    "npy": as_npy,
}
if features.check("avif"):
    IMAGES["avif"] = lambda: saved("AVIF")


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind):
    unexpected = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in mutated(IMAGES[kind](), MUTATIONS):
            for read in (
                lambda c: read_image("a file", MAX_PIXELS, content=c),
                lambda c: read_image("a file", MAX_PIXELS, content=c, wanted=PixelFormat(5, 8)),
                lambda c: read_mask("a file", MAX_PIXELS, content=c),
                lambda c: image_size("a file", MAX_PIXELS, content=c),
            ):
                unexpected += unexpected_of(read, content)
    assert unexpected == []


def unexpected_of(read: Callable[[bytes], object], content: bytes) -> list[str]:
    """Returns what a reader raises that is not an error for users which names the file."""
    try:
        read(content)
    except (ValueError, OSError) as error:
        return [] if "a file" in str(error) else [f"{type(error).__name__}: {error}"]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []


def of_torch(**options) -> bytes:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    stream = io.BytesIO()
    state = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(3).bfloat16()}
    torch.save({"model": state, "epoch": 3}, stream, **options)
    return stream.getvalue()


def of_keras() -> bytes:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("conv1/conv1")
        group.create_dataset("kernel:0", data=np.ones((3, 3, 2, 4), np.float32), chunks=True)
        group.create_dataset("bias:0", data=np.ones(4, np.float32))
    return stream.getvalue()


def of_safetensors() -> bytes:
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    return numpy.save({"a": np.ones((3, 4), np.float32), "b": np.arange(5)})


WEIGHTS: dict[str, Callable[[], bytes]] = {
    "torch, zip": of_torch,
    "torch, stream": lambda: of_torch(_use_new_zipfile_serialization=False),
    "pickle": lambda: pickle.dumps({"model": {"a": np.ones((3, 4)), "b": np.arange(5)}}, 2),
    "pickle of protocol 4": lambda: pickle.dumps({"model": {"a": np.ones((3, 4))}}, 4),
    "keras": of_keras,
    "safetensors": of_safetensors,
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights(tmp_path, kind):
    path = tmp_path / "a file"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_weights(path)

    unexpected = []
    for content in mutated(WEIGHTS[kind](), MUTATIONS):
        unexpected += unexpected_of(read, content)
    assert unexpected == []
