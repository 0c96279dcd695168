"""What a server counts, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The counters of one server.

    Attributes:
        requests: to /predict, by status.
        seconds: of a request, from its first byte to its answer.
        batches: images that were detected together.
        in_work: requests that are not answered yet.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        here = {"registry": self._registry, "namespace": "maskrcnn"}
        self.requests = Counter("requests", "Requests to /predict", ["status"], **here)
        self.seconds = Histogram("request_seconds", "Time of a request", buckets=_SECONDS, **here)
        self.batches = Histogram("batch_images", "Images of a batch", buckets=_IMAGES, **here)
        self.in_work = Gauge("requests_in_work", "Requests that are not answered yet", **here)

    def text(self) -> bytes:
        """Returns all of them."""
        return generate_latest(self._registry)
