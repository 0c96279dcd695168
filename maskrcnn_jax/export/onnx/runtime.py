"""Running an ONNX detector by onnxruntime, on a CPU."""

import numpy as np
import onnxruntime

from maskrcnn_jax.export.comparison import Found, Run


def load(content: bytes) -> Run:
    """Returns a function of `image [1, H, W, C]` and `image_size [1, 2]` that detects.

    Args:
        content: of an ONNX file with the inputs and outputs of `to_onnx`.

    Raises:
        ValueError: onnxruntime does not take it.
    """
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds, which have no common name
        raise ValueError(f"onnxruntime does not load the model: {error}") from error

    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray, image_size: np.ndarray) -> list[Found]:
        given = {"image": image, "image_size": image_size}
        found = dict(zip(names, session.run(names, given), strict=True))
        found.setdefault("masks", np.zeros((len(found["boxes"]), 0, 0), np.float32))
        return [Found(**found)]

    return run
