"""What a server accepts, and how it says no."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        body_bytes: of a request.
        pixels: of an image; a larger one is refused before it is decoded.
        images: in a request.
        requests: in work or waiting at a time; the next ones are refused.
        upload_seconds: in which a request's headers, and then its body, must have come, and in
            which its answer must be taken.
        seconds: in which a request must be answered, from when its body is there.
    """

    body_bytes: int = 32_000_000
    pixels: int = 25_000_000
    images: int = 16
    requests: int = 32
    upload_seconds: float = 30.0
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be above 0")


class RefusedError(Exception):
    """A request that is not answered; its text is for whoever sent it.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
