"""What to say about a flag that the configuration cannot take."""

from absl import flags


def unknown_key(error: AttributeError) -> str:
    """Returns the message for a key that a configuration lacks, with the key that is like it.

    Args:
        error: as `ml_collections.config_flags` raises it.
    """
    cause = error.args[0]  # a KeyError whose text has both keys, or that text
    key = cause.args[0] if isinstance(cause, KeyError) else cause
    return (
        f"the configuration has no key {key}\n(the command line changes keys that the recipe has; "
        "add others, such as arguments of a reader, to a copy of it)"
    )


def faulty_flag(error: flags.Error) -> str:
    """Returns the message about the value of a flag.

    Args:
        error: as absl raises it; its text ends in the traceback where a recipe raised something. Of
            a ValueError, with which a recipe refuses its argument, the message alone is returned.
    """
    lines = str(error).strip().splitlines()
    kind, _, message = lines[-1].strip().partition(": ")
    return f"{lines[0].split(': Error')[0]}: {message}" if kind == "ValueError" else str(error)
