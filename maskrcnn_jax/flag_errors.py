"""What to say about a flag that the configuration cannot take."""


def unknown_key(error: AttributeError) -> str:
    """Returns the message for a key that a configuration lacks, with the key that is like it.

    Args:
        error: as `ml_collections.config_flags` raises it.
    """
    cause = error.args[0]  # a KeyError whose text has both keys, or that text
    return f"the configuration has no key {cause.args[0] if isinstance(cause, KeyError) else cause}"
