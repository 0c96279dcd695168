"""Where a published model is: hf://USER/NAME, with @REVISION behind it where one is meant."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn_jax.checkpoints import weights_folder

SCHEME = "hf://"
CARD = "README.md"
FILES = (weights_folder.WEIGHTS, weights_folder.CONFIG, CARD)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(rf"hf://(?P<repo>{_NAME}/{_NAME})(@(?P<revision>[\w./-]+))?")


class Address(NamedTuple):
    """A repository of models on the Hugging Face Hub.

    Attributes:
        repo: USER/NAME.
        revision: a branch, a tag or a commit; None: the main branch.
    """

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_address(source: object) -> bool:
    """Tells whether a source is meant to be on a hub."""
    return str(source).startswith(SCHEME)


def parse(text: str) -> Address:
    """Reads an address.

    Raises:
        ValueError: it is none.
    """
    if (found := _ADDRESS.fullmatch(text)) is None:
        raise ValueError(
            f"{text} is no address; expected hf://USER/NAME or hf://USER/NAME@REVISION"
        )
    return Address(found["repo"], found["revision"])


def download(text: str) -> Path:
    """Returns the folder with a published model's files; what is there already is not fetched.

    Args:
        text: an address. Only the files that a model consists of are fetched, whatever else the
            repository has.

    Raises:
        ValueError: it is no address, or huggingface_hub is not installed.
        OSError: it cannot be fetched.
    """
    address = parse(text)
    hub = library()
    try:
        folder = hub.snapshot_download(
            address.repo, revision=address.revision, allow_patterns=list(FILES)
        )
    except Exception as error:  # of its own, of its HTTP library, or of the network
        raise OSError(f"{text} cannot be fetched: {_first_line(error)}") from error
    if not weights_folder.is_weights_folder(folder):
        raise ValueError(
            f"{text} has no {weights_folder.WEIGHTS} and {weights_folder.CONFIG}; expected a model "
            "that `python -m maskrcnn_jax.hub push` has published"
        )
    return Path(folder)


def upload(folder: Path, text: str, private: bool) -> str:
    """Publishes a model's folder; returns the page of what was made.

    Args:
        folder: with the model's files.
        text: an address without a revision; the repository is made where there is none.
        private: whether a repository that is made is for its owner alone.

    Raises:
        ValueError: it is no such address, or huggingface_hub is not installed.
        OSError: it cannot be sent.
    """
    address = parse(text)
    if address.revision:
        raise ValueError(
            f"{text}: leave @{address.revision} out; a model is sent to the main branch"
        )
    api = library().HfApi()
    try:
        api.create_repo(address.repo, private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=address.repo, folder_path=folder, allow_patterns=list(FILES)
        )
    except Exception as error:
        raise OSError(
            f"{text} cannot be sent: {_first_line(error)}. `hf auth login` signs you in"
        ) from error
    return str(made.commit_url)


def library() -> Any:
    """Returns the package huggingface_hub.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"{SCHEME} needs the package huggingface_hub ({error}): pip install -e '.[hub]'"
        ) from error
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
