"""The groups of layers that `config.train.layers` names; no JAX here: settings are read without.

3+                              from the first step to the last
heads:2000, 4+:6000, all        until step 2000, until step 6000, to the end
"""

# Each group, and how many of the backbone's stages it freezes, from the first. The words are those
# of matterport's Mask R-CNN: "3+" is C3 and whatever comes after it.
LAYERS = {"heads": 5, "5+": 4, "4+": 3, "3+": 2, "2+": 1, "all": 0}


def parse_layers(text: str) -> list[tuple[str, int]]:
    """Returns the layers of each stage of training, and the step before it.

    Args:
        text: `config.train.layers`.

    Raises:
        ValueError: for unknown layers, or steps that are missing, surplus or not increasing.
    """
    stages: list[tuple[str, int]] = []
    start = 0
    parts = [part.strip() for part in text.split(",")]
    for number, part in enumerate(parts, 1):
        layers, colon, until = (word.strip() for word in part.partition(":"))
        if layers not in LAYERS:
            raise _fault(f"{layers!r} is none of them")
        stages.append((layers, start))
        if number == len(parts):
            if colon:
                raise _fault(f"the last stage goes to the end of the run; take {until!r} away")
        elif until.isdecimal() and int(until) > start:
            start = int(until)
        else:
            raise _fault(f"{part!r} must end in a step above {start}, like {layers}:{start + 1000}")
    return stages


def _fault(fault: str) -> ValueError:
    return ValueError(
        f"{fault}. Give one of {', '.join(LAYERS)}, or stages such as 'heads:2000, 4+:6000, all'"
    )
