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
        """Checks what has to go together.

        Args:
            class_agnostic: `config.model.box_head.class_agnostic`.
            key: of this section.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        if not self.ious:
            return
        if not class_agnostic:
            raise ValueError(
                f"{key}.ious is {self.ious}, whose heads hand one box for all classes on; set "
                "config.model.box_head.class_agnostic = True, or leave config.model.cascade.ious "
                "empty"
            )
        if len(self.coder_weights) != len(self.ious):
            raise ValueError(
                f"{key}.coder_weights has {len(self.coder_weights)} groups of four and {key}.ious "
                f"{len(self.ious)} values; each further head needs one of both"
            )
        if min(min(weights) for weights in self.coder_weights) <= 0:
            raise ValueError(
                f"{key}.coder_weights is {self.coder_weights}; expected values above 0"
            )
