"""The file itself: a safetensors file whose one metadata entry, `fxq`, is `version sha256`, a line break, and the graph as JSON."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from fxq.errors import FileError, FxqError
from fxq.files.schema import DTYPES, Document, TensorRecord, first_fault

# of the format; a file says which one it has
VERSION = 1
# the most that the header of a file, its graph and table of tensors, may take where the reader has not asked for more
MOST_HEADER_BYTES = 16 * 2**20
# the most that safetensors takes
LARGEST_HEADER_BYTES = 100_000_000

_KEY = "fxq"
_IS_VERSION = re.compile("[1-9][0-9]{0,9}")
_LENGTH_BYTES = 8
_ESCAPED = '"\\\n'  # in the header two bytes each
_ROW_BYTES = 128  # of the table of tensors, without the name
_MADE_BY_SAVE = "a file that fxq.save has written"
_WRITE_AGAIN = "save or copy the model again"


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds.

    Attributes:
        document: the graph and all that is known of it.
        tensors: name → value, in memory of its own; those that the document lists.
    """

    document: Document
    tensors: Mapping[str, Tensor]


# --- writing ---------------------------------------------------------------------------------------------------------------


def write_file(path: Path, contents: Contents) -> None:
    """Writes a file beside it, which then takes its place: whatever happens, there is the whole new file or the old one.

    Raises:
        FileError: it cannot be written, or the graph is larger than a file may have.
    """
    text = contents.document.model_dump_json(exclude_defaults=True)
    header = f"{VERSION} {_digest(text, contents)}\n{text}"
    _require_room(path, len(header.encode()) + sum(map(header.count, _ESCAPED)) + sum(_ROW_BYTES + len(name) for name in contents.tensors))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(serialize(dict(contents.tensors), {_KEY: header}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        remedy = "choose a place that exists, may be written to and has room"
        raise FileError(str(path), expected="a file that can be written", found=str(error), remedy=remedy) from error
    finally:
        temporary.unlink(missing_ok=True)


def _require_room(path: Path, header_bytes: int) -> None:
    if header_bytes > LARGEST_HEADER_BYTES:
        raise FileError(
            str(path),
            expected=f"a graph of at most {LARGEST_HEADER_BYTES / 2**20:.0f} MiB as JSON, which safetensors can store",
            found=f"{header_bytes / 2**20:.0f} MiB",
            remedy="save the parts of the model one by one",
        )


def _digest(text: str, contents: Contents) -> str:
    """sha256 of the JSON and of the tensors, in the order in which it lists them: finds damage, and is no signature."""
    found = hashlib.sha256(text.encode())
    for record in contents.document.tensors:
        found.update(contents.tensors[record.name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


# --- reading ---------------------------------------------------------------------------------------------------------------


def read_file(path: Path, most_header_bytes: int = MOST_HEADER_BYTES) -> Contents:
    """Reads and checks a file. Memory is taken for the header, of limited size, and for tensors whose bytes the file has.

    Raises:
        FileError: there is no such file, it is damaged, none of fxq's, or of a later version; or its header is larger than it may be.
    """
    try:
        _check_header_size(path, most_header_bytes)
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            if header is None:
                raise _damaged(path, "a safetensors file without the entry 'fxq'")
            version, digest, text = _split(path, header)
            document = _parse(path, version, text)
            contents = Contents(document, {record.name: _tensor(path, file, record) for record in document.tensors})
            unknown = set(file.keys()) - contents.tensors.keys()
    except FileNotFoundError as error:
        raise FileError(str(path), expected=_MADE_BY_SAVE, found="no such file", remedy="check the path") from error
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"{error}") from error
    if unknown or _digest(text, contents) != digest:
        raise _damaged(path, f"tensors that are not listed: {sorted(unknown)[:3]}" if unknown else "content that its checksum does not fit")
    return contents


def _check_header_size(path: Path, most: int) -> None:
    """The first 8 bytes say how long the header is: not longer than the file, nor than a header may be."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(path, "no regular file")
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > min(status.st_size - _LENGTH_BYTES, LARGEST_HEADER_BYTES):
        raise _damaged(path, f"{status.st_size} bytes, which do not begin like one")
    if length > most:
        raise FileError(
            str(path),
            expected=f"a graph of at most {most:,} bytes",
            found=f"one of {length:,}",
            remedy=f"if you trust the file, which may take 200 times that as memory: fxq.load(path, most_header_bytes={length})",
        )


def _split(path: Path, header: str) -> tuple[int, str, str]:
    first, _, text = header.partition("\n")
    version, _, digest = first.partition(" ")
    if not _IS_VERSION.fullmatch(version):
        raise _damaged(path, f"the version {version[:20]!r}")
    return int(version), digest, text


def _parse(path: Path, version: int, text: str) -> Document:
    if version > VERSION:
        raise FileError(
            str(path),
            expected=f"a file of version {VERSION} or older",
            found=f"version {version}, which a newer fxq has written",
            remedy="upgrade fxq: pip install -U fxq",
        )
    try:
        return Document.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(path, first_fault(error)) from error
    except FxqError as error:  # what a dataclass of fxq has to say of its fields
        raise _damaged(path, f"{error.where}: {error.found[:200]}") from error


def _tensor(path: Path, file: Any, record: TensorRecord) -> Tensor:
    """A copy in memory of its own: the file is mapped, and may change later."""
    try:
        mapped: Tensor = file.get_tensor(record.name)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise _damaged(path, f"the tensor {record.name[:100]!r}: {error}") from error
    if mapped.dtype != DTYPES[record.dtype] or tuple(mapped.shape) != record.shape:
        raise _damaged(path, f"the tensor {record.name[:100]!r} of {mapped.dtype} {tuple(mapped.shape)[:8]}, which its list has otherwise")
    return mapped.clone()


def _damaged(path: Path, found: str) -> FileError:
    return FileError(str(path), expected=_MADE_BY_SAVE, found=found, remedy=_WRITE_AGAIN)
