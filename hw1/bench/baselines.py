"""The two sides that benchmark.py times: our code, and what one would otherwise write."""

import re
import time
import warnings
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from optimizers import OPTIMIZERS
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import train

CORES = torch.get_num_threads()
START = """if True:  # a script that ends where its first training step would begin
    import sys, time
    sys.path.insert(0, sys.argv.pop(1))
    import random_labels, train
    from lab import runs
    whole = runs._train
    def first_step(*arguments):
        def epochs(*_):
            raise RuntimeError(f"first step at {time.time()}")
        train.epochs = epochs
        return whole(*arguments)
    runs._train, sys.argv[0] = first_step, "random_labels.py"
    sys.exit(random_labels.main())
"""


def our_epochs(setting, x, y, threads=1):
    """The epochs of a setting as every run does them; return the seconds of each."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as parallel.py has it for every run
    model, seconds = train.network(setting, device=x.device), [time.perf_counter()]
    parameters, fused = model.parameters(), x.device.type in ("cpu", "cuda")
    optimizer = OPTIMIZERS["adam"](parameters, lr=setting["lr"], fused=fused)
    for _ in train.epochs(model, optimizer, x, y, setting, 1):  # each ends by reading its loss
        seconds.append(time.perf_counter())
    return [later - sooner for sooner, later in pairwise(seconds)]


def mapped_epochs(path, setting):
    """The same in a process that shares the data: its first rows, mapped from a file."""
    x, y = torch.load(path, mmap=True, weights_only=True)
    return our_epochs(setting, x[: setting["train_size"]], y[: setting["train_size"]])


class Images(Dataset):
    """The usual data set: an image at a time, through PIL, ToTensor and Normalize."""

    def __init__(self, x, y):
        self.x, self.y, pixels = x, y, x.reshape(-1, x.shape[-1]) / 255
        t = torchvision_transforms()
        steps = t.ToTensor(), t.Normalize(pixels.mean(0).tolist(), pixels.std(0).tolist())
        self.transform = t.Compose(steps)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.x[i].squeeze())), int(self.y[i])


def torchvision_transforms():
    """Import torchvision.transforms, also beside a PyTorch that torchvision was not built for."""
    try:
        from torchvision import transforms
    except RuntimeError:  # it wants two operators to exist; nothing here calls them
        for name in ("nms", "qnms"):
            signature = "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)
        from torchvision import transforms
    return transforms


def usual_epoch(images, setting, workers, device):
    """One epoch as tutorials write it: a loader, contiguous layout, plain Adam, loss.item()."""
    torch.set_num_threads(1 if workers else CORES)
    torch.set_flush_denormal(False)
    model = train.network(setting, device=device).to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=setting["lr"])
    loader = DataLoader(images, setting["batch_size"], shuffle=True, num_workers=workers)
    total = 0
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()


def products(setting, n):
    """The limit: an epoch's matrix products (forward, weight and input gradients) and no more."""
    sizes, batch = [int(s) for s in setting["model"].split("-")[1:]], setting["batch_size"]
    layers = [(torch.randn(batch, i), torch.randn(o, i), torch.randn(batch, o))
              for i, o in pairwise(sizes)]  # fmt: skip
    for _ in range(-(-n // batch)):
        for number, (inputs, weight, gradient) in enumerate(layers):
            torch.mm(inputs, weight.T), torch.mm(gradient.T, inputs)
            if number:
                torch.mm(gradient, weight)


def looped_norms(model, x, y):
    """Both input norms, an example at a time."""
    for image, label in zip(x.split(1), y.split(1), strict=True):
        image = image.clone().requires_grad_()
        logits = model(image)
        torch.autograd.grad(F.cross_entropy(logits, label), image, retain_graph=True)[0].norm()
        rows = [torch.autograd.grad(p, image, retain_graph=True)[0] for p in logits.softmax(1)[0]]
        torch.stack(rows).norm()


def pyhessian_norm(hessian, model, x, y, tolerance):
    """PyHessian's top eigenvalue; `tolerance` bounds its last change, which is less than its error."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backward(create_graph=True)
        batches = list(zip(x.split(1000), y.split(1000), strict=True))
        found = hessian(model, F.cross_entropy, dataloader=batches, cuda=False)
        return found.eigenvalues(maxIter=1000, tol=tolerance)[0][0]


def pss(pid):
    """MB of a process and all below it, shared pages split among those that share; 0 off Linux."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = " ".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
        return int(re.search(r"Pss: +(\d+)", text)[1]) / 1024 + sum(map(pss, below.split()))
    except (OSError, TypeError):  # it ended meanwhile
        return 0
