"""Compiled programs kept between runs, so that only the first run of a program waits for XLA."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

ENVIRONMENT = "MASKRCNN_JAX_CACHE"
_is_chosen = False  # whether this process has said where compiled programs are kept


def use_compilation_cache(folder: str | Path | None = None) -> Path | None:
    """Turns on JAX's persistent compilation cache; to be called before the first compilation.

    Args:
        folder: where compiled programs are kept; "off" for not at all. None: the environment
            variable `MASKRCNN_JAX_CACHE` says (a folder or "off"), else JAX's own setting if
            `JAX_COMPILATION_CACHE_DIR` has set it, else `maskrcnn_jax` in the user's cache folder.

    Returns:
        The folder, or None where the cache is off.
    """
    global _is_chosen
    _is_chosen = True
    configured = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    choices = (folder, os.environ.get(ENVIRONMENT), configured)
    choice = next((str(choice) for choice in choices if choice), "")
    if choice == "off":
        jax.config.update("jax_compilation_cache_dir", None)
        return None
    path = Path(choice).expanduser() if choice else user_cache()
    jax.config.update("jax_compilation_cache_dir", str(path))
    # Small programs count too: on a CPU hundreds of them add up to the waiting time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    compilation_cache.reset_cache()  # JAX looks at its settings at the first compilation only
    return path


def cache_by_default() -> None:
    """Turns the cache on, unless it has been decided upon already.

    That is by a call of `use_compilation_cache`, or where JAX's own cache is set: then its folder
    and all else that is set of it stay as they are.
    """
    if not _is_chosen and not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        use_compilation_cache()


def user_cache() -> Path:
    """Returns this package's folder in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maskrcnn_jax"


def scatter_fault(platform: str, jaxlib: str) -> str | None:
    """Returns what is wrong with additions to given rows on such devices, or None.

    Args:
        platform: of the devices, as JAX names it.
        jaxlib: its version.
    """
    numbers = tuple(int(part) for part in jaxlib.split(".")[:3] if part.isdigit())
    if platform not in ("gpu", "cuda") or not (0, 10, 2) <= numbers <= (0, 11, 0):
        return None
    return (
        f"jaxlib {jaxlib} adds to rows on a GPU in a loop of comparisons, many times slower "
        "(openxla/xla #46225), and RoIAlign's gradient is such an addition; install jaxlib 0.11.2 "
        "or newer, or give --config.train.deterministic=True"
    )
