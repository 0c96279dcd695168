"""Square windows that overlap and cover an image: tiles of training and of inference."""

Window = tuple[int, int, int, int]  # x1, y1, x2, y2, whole pixels


def tile_windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Returns the square windows that cover an image, row by row.

    Neighbours have at least the overlap in common, so whatever is no longer than the overlap in
    either direction lies whole in one of them. The last ones end with the image. Along a side that
    is shorter than a tile there is one, of that length.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        side: of a tile, pixels.
        overlap: pixels, less than the side.
    """
    return [
        (x, y, min(x + side, width), min(y + side, height))
        for y in _starts(height, side, overlap)
        for x in _starts(width, side, overlap)
    ]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    last = max(length - side, 0)
    return [*range(0, last, side - overlap), last]
