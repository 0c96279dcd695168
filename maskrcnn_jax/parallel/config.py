"""The settings of the mesh of devices: `config.mesh`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import check_fields, setting


@dataclass(slots=True)
class MeshConfig:
    """Devices along each axis of the mesh; docs/scaling.md says which to choose."""

    data: int = setting(-1, "divide the images of a batch; -1: all devices that are left")
    fsdp: int = setting(
        1,
        "divide these, too, and the storage of parameters and optimiser state",
        within="[1, inf)",
    )
    space: int = setting(
        1, "divide the rows of each image; devices of one process", within="[1, inf)"
    )

    def validate(self, key: str = "config.mesh") -> None:
        """Checks every value; `make_mesh` checks them against the devices.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        check_fields(self, key)
        if self.data < 1 and self.data != -1:
            raise ValueError(
                f"{key}.data is {self.data}; expected at least 1, or -1 for all devices left"
            )
