"""Let the tests import the modules of hw1, and compute on one thread as the runs do."""

import sys
from pathlib import Path

import torch

HW1 = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HW1), str(HW1 / "bench"), str(HW1 / "report")]
from lab.start import pin_instructions

pin_instructions()
torch.set_num_threads(1)
