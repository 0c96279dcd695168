"""The settings of a cascade of box heads: `config.model.cascade`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import setting

CoderWeights = tuple[float, float, float, float]


@dataclass(slots=True, unsafe_hash=True)
class CascadeConfig:
    """Further box heads, each on the boxes of the one before (models/cascade/heads.py).

    The first is `config.model.box_head`, with the IoU of `config.model.roi`.
    """

    ious: tuple[float, ...] = setting(
        (),
        "IoU from which a RoI is positive, for each further head; 0.6,0.7 in the paper; none: no "
        "cascade",
        within="[0, 1]",
        weights=("box_head",),
    )
    coder_weights: tuple[CoderWeights, ...] = setting(
        ((20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0)),
        "factors of dx, dy, dw, dh in the box deltas of each further head",
        weights=("box_head",),
    )

    def validate(self, class_agnostic: bool, key: str = "config.model.cascade") -> None:
        """Checks what has to go together; raises ValueError as `checks.check`."""
        if self.ious:
            # Imported here: a detector without further heads needs none of it.
            from maskrcnn_jax.models.cascade.checks import check

            check(self, class_agnostic, key)
