"""Calls on a Dask cluster, by workers that compute exactly what this machine would compute."""

import pickle
import socket

import lab
from lab import HW1
from lab.digests import modules_digest
from lab.parallel import call_here, ignore
from lab.provenance import capability
from lab.start import pin_instructions

import torch


class Cluster:
    """The workers of a Dask scheduler. Each computes with the files and the PyTorch that it has."""

    jobs = 0  # calls at a time on this machine

    def __init__(self, address):
        from dask.distributed import Client

        try:
            self.client = Client(address, timeout=10)
        except Exception as error:  # noqa: BLE001 - a bad address can raise nearly anything
            raise OSError(f"no Dask scheduler answers at {address} ({error})") from None
        refusals = [error for _, error in self.client.run(portable(None)).values() if error]
        if max(self.client.nthreads().values(), default=1) > 1:
            # The runs in one process would share its random generator.
            refusals.append("start the Dask workers with --nthreads 1")
        if refusals:
            self.client.close()
            raise OSError(refusals[0])
        self.executor = self.client.get_executor(pure=False)

    def submit(self, report, function, arguments):
        """Return the future of function(report, *arguments); what it reports is lost on the way."""
        return self.executor.submit(portable((function, arguments)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


def portable(call):
    """Pack a call for the Dask workers, which do not know yet where our modules are.

    A worker stays up between two runs of a script, in which our code may have changed: it then
    imports our modules again, and computes only if they are the caller's.
    """
    import cloudpickle  # it comes with Dask

    content, here, wanted = cloudpickle.dumps(call), str(HW1), identity()

    def compute():  # this function travels as code, hence the imports inside
        import importlib
        import socket
        import sys

        sys.path[:0] = [here] * (here not in sys.path)
        if getattr(sys.modules.get("lab"), "identity", None) != wanted:
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None)).startswith(here):
                    del sys.modules[name]
            importlib.invalidate_caches()
        try:
            return importlib.import_module("lab.cluster").compute_if_alike(content, wanted)
        except ImportError as error:
            where = f"{socket.gethostname()}, {sys.executable}"
            return None, f"the Dask worker on {where} cannot compute: {error}"

    return compute


def compute_if_alike(content, wanted):
    """On a Dask worker: compute a pickled call if code, PyTorch and processor are the caller's."""
    pin_instructions()
    found = identity()
    for name, value in wanted.items():
        if found[name] != value:
            return None, (
                f"the Dask worker on {socket.gethostname()} has another {name}"
                f" ({found[name][:12]} instead of {value[:12]}): make them the same"
            )
    lab.identity = wanted
    call = pickle.loads(content)
    return call_here(ignore, *call) if call else (None, None)


def identity():
    """Return what has to be the same on a worker for the same bytes, {name: value}."""
    return {
        "version of the code": modules_digest(),
        "PyTorch": torch.__version__,
        "set of vector instructions": capability(),
    }
