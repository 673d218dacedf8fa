"""Files that fxq.save would not write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Edit = Callable[[dict[str, Any]], None]


def rewrite(path: Path, edit: Edit) -> None:
    """Changes the JSON of a file, and makes the checksum fit again: as somebody would who means harm."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()["fxq"]
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, a safe_open is no dict
    first, _, text = header.partition("\n")
    document = json.loads(text)
    edit(document)
    write(path, json.dumps(document), tensors, first.partition(" ")[0])


def write(path: Path, text: str, tensors: dict[str, torch.Tensor], version: str = "1") -> None:
    """A file with this JSON and these tensors."""
    digest = hashlib.sha256(text.encode())
    for each in _listed(text):
        if each in tensors:
            digest.update(tensors[each].reshape(-1).view(torch.uint8).numpy().data)
    save_file(tensors, path, {"fxq": f"{version} {digest.hexdigest()}\n{text}"})


def _listed(text: str) -> list[str]:
    try:
        return [each["name"] for each in json.loads(text)["tensors"]]
    except (ValueError, KeyError, TypeError):
        return []


def node(document: dict[str, Any], kind: str, number: int = 0) -> dict[str, Any]:
    """The record of a node of that kind."""
    found: dict[str, Any] = [each for each in document["model"]["nodes"] if each["kind"] == kind][number]
    return found
