"""The two sides that benchmark.py times: this code, and the same work as it is usually written."""

import time
import warnings
from itertools import pairwise

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import measures
import train

CORES = torch.get_num_threads()


def our_epochs(setting, x, y, threads=1):
    """Train for the epochs of a setting as every run does; return the seconds of each epoch."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # lab/parallel.py does this for every run
    model = train.network(setting, device=x.device)
    fused = x.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(model.parameters(), lr=setting["lr"], fused=fused)
    seconds = [time.perf_counter()]
    for epoch, _ in train.epochs(model, optimizer, x, y, setting, 1):
        if isinstance(epoch, int):  # its end, which waits for its loss
            seconds.append(time.perf_counter())
    return [later - sooner for sooner, later in pairwise(seconds)]


def mapped_epochs(_report, path, setting):
    """Do the same in a process of its own, on the first rows of data mapped from a file."""
    x, y = torch.load(path, mmap=True, weights_only=True)
    return our_epochs(setting, x[: setting["train_size"]], y[: setting["train_size"]])


class Images(Dataset):
    """The usual data set, which gives one image at a time, through PIL, ToTensor and Normalize."""

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
    except RuntimeError:  # two operators are not there; nothing here calls them
        for name in ("nms", "qnms"):
            signature = "(Tensor boxes, Tensor scores, float threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", signature)
        from torchvision import transforms
    return transforms


def usual_epoch(images, setting, workers, device):
    """Train for an epoch as tutorials do: a loader, contiguous layout, plain Adam, loss.item()."""
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
    """Do only the matrix products of an epoch: outputs, weight gradients and input gradients."""
    sizes, batch = [int(size) for size in setting["model"].split("-")[1:]], setting["batch_size"]
    layers = [
        (torch.randn(batch, inputs), torch.randn(outputs, inputs), torch.randn(batch, outputs))
        for inputs, outputs in pairwise(sizes)
    ]
    for _ in range(-(-n // batch)):
        for number, (inputs, weight, gradient) in enumerate(layers):
            torch.mm(inputs, weight.T), torch.mm(gradient.T, inputs)
            if number:
                torch.mm(gradient, weight)


def our_norms(model, x, y):
    """Compute both input norms as the experiments do."""
    return measures.input_gradient_norm(model, x, y), measures.jacobian_norm(model, x)


def looped_norms(model, x, y, n=200):
    """Compute both input norms of n examples, one at a time; return the seconds for all of x."""
    started = time.perf_counter()
    for image, label in zip(x[:n].split(1), y[:n].split(1), strict=True):
        image = image.clone().requires_grad_()
        logits = model(image)
        torch.autograd.grad(F.cross_entropy(logits, label), image, retain_graph=True)[0].norm()
        rows = [torch.autograd.grad(p, image, retain_graph=True)[0] for p in logits.softmax(1)[0]]
        torch.stack(rows).norm()
    return (time.perf_counter() - started) * len(x) / min(n, len(x))


def pyhessian_norm(model, x, y, tolerance):
    """Return PyHessian's top eigenvalue.

    PyHessian stops when the value changes by less than `tolerance`; the error is larger than that.
    """
    from pyhessian import hessian  # optional

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # backward(create_graph=True)
        batches = list(zip(x.split(1000), y.split(1000), strict=True))
        found = hessian(model, F.cross_entropy, dataloader=batches, cuda=False)
        return found.eigenvalues(maxIter=1000, tol=tolerance)[0][0]
