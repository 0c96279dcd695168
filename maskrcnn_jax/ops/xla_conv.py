"""XLA's own convolution, with the layout and the padding of this package."""

import jax
from jax import Array


def xla_conv(
    x: Array, kernel: Array, stride: int = 1, padding: tuple[int, int] | None = None
) -> Array:
    """Convolves `[B, H, W, Cin]` with `[k, k, Cin / groups, Cout]`.

    Args:
        x: see above.
        kernel: of the same dtype; its inputs say how many groups of channels there are.
        stride: rows and columns between outputs.
        padding: pixels before and after, of rows and columns alike; None: half the kernel on every
            side, as PyTorch pads.
    """
    padding = padding or (kernel.shape[0] // 2,) * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=(padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )
