"""Let the tests import the modules of hw1, and compute on one thread as the runs do."""

import sys
from functools import cache
from pathlib import Path

import pytest
import torch

HW1 = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HW1), str(HW1 / "bench"), str(HW1 / "report")]
from lab import provenance, runs, settings
from lab.start import pin_instructions

pin_instructions()
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def machine_is_measured_once():
    """What every start finds out about the machine takes it a second; here once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((settings, "fingerprint"), (provenance, "packages")):
            patch.setattr(module, name, cache(getattr(module, name)))
        patch.setattr(runs, "fingerprint", settings.fingerprint)
        patch.setattr(runs, "core_gflops", cache(runs.core_gflops))
        yield
