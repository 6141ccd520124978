"""Downloads by torchvision: nothing else about the data sets needs torchvision or the network."""

import contextlib
import socket
import sys
from http.client import HTTPException

from lab.formats import DataError

TIMEOUT = 30  # seconds without a byte, after which a download is given up


class MissingDataError(DataError):
    """A data set is not in the data folder and cannot be downloaded."""


def download(name, kind, folder, wanted):
    """Let torchvision's class `kind` download into a folder and check what it downloaded.

    wanted: the files to put there by hand, for the message. Raises MissingDataError.
    """
    otherwise = f"put {wanted} into {folder}, or use --dataset digits, which works offline"
    try:
        from torchvision import datasets  # slow to import, and rarely needed
    except Exception as error:  # noqa: BLE001 - made for another PyTorch, it raises RuntimeError
        raise MissingDataError(
            f"torchvision, which would download {name}, cannot be imported ({_reason(error)}):"
            " install the version that fits your PyTorch (pip install -r requirements.txt), or"
            f" {otherwise}"
        ) from None
    print(
        f"downloading {name} into {folder} (given up after {TIMEOUT} s without a byte)",
        file=sys.stderr,
        flush=True,
    )
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the progress bar is there too
            getattr(datasets, kind)(folder, download=True)
    except (RuntimeError, OSError, HTTPException) as error:
        raise MissingDataError(
            f"{name} is not in {folder} and cannot be downloaded ({_reason(error)}): {otherwise}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _reason(error):
    """Return the last line of what an error says: torchvision lists the mirrors before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip("<>")
