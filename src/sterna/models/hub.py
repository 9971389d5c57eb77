"""Policies to and from the Hub: a folder's safe files in one commit, fetched back by name."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sterna.errors import InputError

PREFIX = "hf:"
"""In front of a Hub name on the command line, where a bare one would be a path."""
CARD = "README.md"
SAFE = ("*.json", "*.safetensors", "*.txt", "*.jinja", CARD)
"""What is fetched and sent: nothing that anyone would unpickle or execute."""
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w./-]{1,100})?")
_KEPT_HOME = (CARD, "original.json", "original.safetensors", "recipe.json", "run.json")
"""What a folder may hold that is not sent as it is: a run's files name this machine's paths."""
Answer = TypeVar("Answer")


def hub_name(text: str) -> str | None:
    """Return the Hub name (``owner/name`` or ``owner/name@revision``) that a text is, or None.

    With the prefix ``hf:`` always; without it only where no such path exists.
    """
    bare = text.removeprefix(PREFIX)
    if _NAME.fullmatch(bare) is None or ".." in bare:
        if text.startswith(PREFIX):
            raise InputError(f"{text}: expected {PREFIX}owner/name or {PREFIX}owner/name@revision")
        return None
    return bare if bare != text or not Path(text).exists() else None


def find_folder(name: str | Path, *, endpoint: str | None = None) -> Path:
    """Return the folder of a policy: `name` itself, or what is fetched from the Hub.

    Raises `InputError` where the Hub has no such policy or cannot be reached.
    """
    if isinstance(name, Path) and not str(name).startswith(PREFIX):
        return name
    wanted = hub_name(str(name))
    return Path(name) if wanted is None else fetch(wanted, endpoint=endpoint)


def fetch(name: str, *, endpoint: str | None = None) -> Path:
    """Fetch ``owner/name[@revision]`` into the Hub's own cache and return the folder there."""
    import huggingface_hub

    repo, _, revision = name.partition("@")
    folder = _ask(
        name,
        lambda: huggingface_hub.snapshot_download(
            repo, revision=revision or None, allow_patterns=list(SAFE), endpoint=endpoint
        ),
    )
    return Path(folder)


class Saveable(Protocol):
    """A model that can write itself into a folder."""

    def save_pretrained(self, folder: str | Path, *, notes: str = "") -> Path:
        """Write weights, sizes, a probe and a card."""
        ...


def push_to_hub(
    model: Saveable,
    name: str,
    *,
    notes: str = "",
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a model on the Hub as ``owner/name`` and return its URL; `notes` go into its card.

    `sterna push` does the same for a trained run, with scores, protocol and terms in the card.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = model.save_pretrained(scratch, notes=notes)
        card = (folder / CARD).read_text("utf-8").replace("this/folder", name)
        return push_folder(folder, name, card, private=private, token=token, endpoint=endpoint)


def push_folder(
    folder: str | Path,
    name: str,
    card: str,
    *,
    more: Mapping[str, bytes] | None = None,
    private: bool = True,
    message: str = "Policy",
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Put a policy folder on the Hub as ``owner/name``, with `card` as its README; return its URL.

    All files go in one commit, so that nobody ever fetches half a policy. The repository is made
    where there is none. `more` are further files by name; `token` and `endpoint` default to those
    of huggingface_hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if _NAME.fullmatch(name) is None or "@" in name or ".." in name:
        raise InputError(f"{name!r}: expected owner/name, as the Hub writes it")
    files = files_to_push(Path(folder))
    api = HfApi(endpoint=endpoint, token=token)
    _ask(name, lambda: api.create_repo(name, private=private, exist_ok=True))
    operations = [
        CommitOperationAdd(path_in_repo=str(file.relative_to(folder)), path_or_fileobj=file)
        for file in files
    ]
    texts = {CARD: card.encode(), **(more or {})}
    operations += [
        CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
        for file, content in texts.items()
    ]
    _ask(name, lambda: api.create_commit(name, operations, commit_message=message))
    return f"{api.endpoint}/{name}"


def files_to_push(folder: Path) -> list[Path]:
    """Return the files of a policy folder that go to the Hub as they are."""
    found = sorted(
        file
        for pattern in SAFE
        for file in folder.glob(pattern)
        if file.is_file() and file.name not in _KEPT_HOME
    )
    if not any(file.suffix == ".safetensors" for file in found):
        raise InputError(f"{folder}: no .safetensors in it; give a saved policy")
    return found


def _ask(name: str, question: Callable[[], Answer]) -> Answer:
    """Ask the Hub; what goes wrong there becomes one line."""
    from huggingface_hub import errors

    # Transport errors belong to the library's HTTP client, which is another one in every version.
    transport: Any = getattr(errors, "HTTPError", OSError)
    known: tuple[Any, ...] = (transport, errors.HFValidationError, OSError, RuntimeError)
    try:
        return question()
    except known as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        reason = " ".join(f"{error} {cause or ''}".split())[:240] or type(error).__name__
        raise InputError(
            f"{name}: the Hub does not give or take it ({reason}); check the name, log in with "
            "`hf auth login`, or give a folder"
        ) from error
