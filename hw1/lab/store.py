"""Values kept in files, each with a checksum, so that a damaged file is noticed and made again."""

import hashlib
import io
import os
import tempfile

from lab import say

import torch


def make_folder(path):
    """Make a folder, unless it is there, and write to it, so that a failure is an OSError now."""
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path) as probe:  # a kill leaves nothing
        probe.write(bytes(4096))


def save(path, value):
    """Write value (dicts, lists, numbers, strings, tensors) with its checksum, in one step."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(hashlib.sha256(content).digest() + content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # still there if the disk is full


def restore(path):
    """Return what `save` wrote, or None if nothing is there or, with a warning, it is damaged."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("its checksum is wrong")
        return torch.load(io.BytesIO(content[32:]), weights_only=True)  # never runs a pickle's code
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - a crafted file can raise nearly anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"warning: {path.name} is damaged ({reason}) and is not used", "stderr")
        return None
