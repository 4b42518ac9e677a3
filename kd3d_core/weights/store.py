"""Where weights lie on this machine, and in which state."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kd3d_core.errors import WeightsError, first_line
from kd3d_core.files import write_whole
from kd3d_core.paths import cache_dir
from kd3d_core.weights.catalogue import Weights, WeightsFile, load_catalogue, lookup
from kd3d_core.weights.download import download_file, sha256_of

_RECORD = "kd3d.json"  # hashes of what was downloaded, beside it


@dataclass(frozen=True)
class FileState:
    """A file of some weights.

    Attributes:
        name: the file's name.
        state: `present`, `missing` or `damaged`.
        size: bytes here, else bytes expected; 0 if unknown.
        detail: why it is damaged, or how far its contents are known to be right.
    """

    name: str
    state: str
    size: int
    detail: str


def folder_of(name: str) -> Path:
    """Folder in the cache for the weights of that name."""
    return cache_dir() / "weights" / name


def resolve(weights: str | Path) -> Path:
    """The file or folder that a model configuration's `weights:` stands for.

    Args:
        weights: a name from `config/weights.yaml`, a path, or `hub:owner/name`, which is fetched
            from the Hugging Face hub into its own cache.

    Raises:
        WeightsError: it isn't here; says which command gets it.
    """
    text = str(weights)
    if text.startswith("hub:"):
        return _from_hub(text.removeprefix("hub:"))
    catalogue = load_catalogue()
    if text not in catalogue:
        path = Path(text).expanduser()
        if path.exists():
            return path
        raise WeightsError(
            f"weights {text!r} are neither a file or folder nor a name: "
            f"config/weights.yaml has {', '.join(catalogue)}"
        )
    for file in look(text):
        if file.state != "present":
            raise WeightsError(
                f"{folder_of(text) / file.name} is {file.state}: "
                f"get it with `kd3d-weights get {text}`"
            )
    files = catalogue[text].files
    return folder_of(text) / files[0].name if len(files) == 1 else folder_of(text)


def look(name: str) -> list[FileState]:
    """State of each file, as far as a glance tells: there, and of the right size."""
    folder, record = folder_of(name), _read_record(name)
    return [_glance(folder / file.name, file, record) for file in lookup(name).files]


def verify(name: str) -> list[FileState]:
    """State of each file after reading all of it and comparing its hash."""
    folder, record = folder_of(name), _read_record(name)
    states = []
    for file, state in zip(lookup(name).files, look(name), strict=True):
        if state.state == "present":
            digest = sha256_of(folder / file.name)
            recorded = record.get(file.name, {}).get("sha256", "")
            if not digest.startswith(file.sha256) or (recorded and digest != recorded):
                expected = file.sha256 or recorded
                detail = f"its sha256 is {digest}, expected {expected}: get it again"
                state = FileState(file.name, "damaged", state.size, detail)  # noqa: PLW2901
            else:
                detail = _trust(file, digest, bool(recorded))
                state = FileState(file.name, "present", state.size, detail)  # noqa: PLW2901
        states.append(state)
    return states


def get(
    name: str, on_progress: Callable[[str, int, int], None] = lambda file, done, total: None
) -> Path:
    """Download what is missing or of the wrong size; returns what `resolve` would.

    Args:
        name: from `config/weights.yaml`.
        on_progress: called with file name, bytes here and bytes in all (0 if unknown).

    Raises:
        WeightsError: the download failed, or its contents are not what was published, or where no
            hash is, not what came the first time (`kd3d.json` beside it records that).
    """
    folder = folder_of(name)
    for file, state in zip(lookup(name).files, look(name), strict=True):
        if state.state != "present":
            record = _read_record(name)
            known = record.get(file.name, {})
            first_seen = known.get("sha256", "") if known.get("url") == file.url else ""
            target, advance = folder / file.name, partial(on_progress, file.name)
            digest = download_file(file.url, target, file.sha256 or first_seen, file.size, advance)
            record[file.name] = {"url": file.url, "sha256": digest, "size": target.stat().st_size}
            _write_record(name, record)
    return resolve(name)


def published_size(weights: Weights) -> int:
    """Bytes of all files; 0 where that isn't known."""
    sizes = [file.size for file in weights.files]
    return sum(sizes) if all(sizes) else 0


def _glance(path: Path, file: WeightsFile, record: dict[str, dict]) -> FileState:
    if not path.is_file():
        return FileState(file.name, "missing", file.size, "")
    size, known = path.stat().st_size, record.get(file.name, {})
    expected = file.size or known.get("size", 0)
    if expected and size != expected:
        return FileState(file.name, "damaged", size, f"{size} bytes, expected {expected}")
    return FileState(file.name, "present", size, _trust(file, known.get("sha256", ""), True))


def _trust(file: WeightsFile, digest: str, recorded: bool) -> str:
    if file.sha256 and digest:
        known = "sha256" if len(file.sha256) == 64 else f"first {len(file.sha256)} digits of sha256"
        return f"verified, {known} as published"
    if digest and recorded:
        return "unverified, no hash is published; unchanged since its download"
    if digest:
        return f"unverified, no hash is published or recorded; sha256 {digest}"
    return "put here by hand; `kd3d-weights verify` checks it"


def _read_record(name: str) -> dict[str, dict]:
    try:
        record = json.loads((folder_of(name) / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # none, or a damaged one; the published hashes still count
    entries = record.items() if isinstance(record, dict) else ()
    return {file: known for file, known in entries if isinstance(known, dict)
            and isinstance(known.get("sha256"), str)}  # fmt: skip


def _write_record(name: str, record: dict[str, dict]) -> None:
    write_whole(folder_of(name) / _RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=["*.json", "*.safetensors", "pytorch_model.bin"]
            )
        )
    except Exception as error:
        reason = first_line(error)
        raise WeightsError(
            f"hub:{repository} cannot be fetched: {reason}; give a folder instead"
        ) from error
