"""Made-up logs of every experiment, with the columns of real ones and curves of known shape."""

import csv
import itertools
import math

import numpy as np

STOPS = ("epochs", "train_loss")
EPSILONS = (1e-4, 5e-4, 1e-3)
NEW = ("weight_norm_1", "weight_norm_2", "distance", "test_confidence", "sharpness_adaptive")


def common(dataset, seed, model="mlp-784-32-32-10", n_params=26506, batch_size=256, lr=0.001):
    names = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
    values = (dataset, model, n_params, "adam", lr, batch_size, seed)
    return dict(zip(names, values, strict=True))


def metrics(train_loss, train_acc, test_loss, test_acc):
    names = ("train_loss", "train_acc", "test_loss", "test_acc")
    return dict(zip(names, (train_loss, train_acc, test_loss, test_acc), strict=True))


def dense(last):
    """The epochs of a dense log: 0, from 1 on whenever it has grown by 5%, and the last."""
    epochs = [0]
    for twentieths in range(20, 20 * last + 1):
        if twentieths / 20 >= 1.05 * epochs[-1] or twentieths == 20 * last:
            epochs.append(twentieths / 20)
    return epochs


def random_labels(dataset, rng):
    for level, seed in itertools.product((0, 0.25, 0.5, 0.75, 1), range(3)):
        slow = 1 + 12 * level + 0.3 * rng.normal()
        for epoch in dense(150):
            fit = math.exp(-epoch / (1.5 * slow))
            loss = 2.3 * fit + 1e-3 * rng.uniform(0.5, 2)
            test = 0.07 + 0.1 * epoch / 150
            test += level * (2.3 + 11 * (1 - fit)) + 2.2 * fit * (1 - level)
            values = metrics(loss, 1 - 0.9 * fit, test, (1 - 0.9 * fit) * (0.98 - 0.88 * level))
            about = {"label_corruption": level, "epoch": epoch}
            yield common(dataset, seed, batch_size=1024) | about | values


def param_sweep(dataset, rng):
    """On cifar10 convolutions and two training sizes; elsewhere an MLP, with noise and without."""
    narrow = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    sweeps = {  # label corruption, train size: widths, epochs
        (0, 60000): ((4, 8, 16, 32, 64, 128, 256, 1024), (0, 250, 500)),
        (0.2, 4000): ((4, 8, 16, 32, 64, 128, 256, 1024), (0, 250, 500)),
    }
    if dataset == "cifar10":
        sweeps = {(0, 4000): ((*narrow, 64, 96), (0, 28)), (0, 50000): (narrow, (0, 16))}
    for ((corruption, size), (widths, epochs)), seed in itertools.product(sweeps.items(), range(3)):
        for width, epoch in itertools.product(widths, epochs):
            n, model, threshold = 795 * width + 10, f"mlp-784-{width}-10", 16000
            if dataset == "cifar10":
                n, model, threshold = (
                    90 * width**2 + 74 * width + 10,
                    f"cnn-{width}",
                    2 * size + 4e4,
                )
            rise = 1 - math.exp(-6 * epoch / epochs[-1])
            free = 1 / (1 + (n / threshold) ** 3)
            train = 2.3 - rise * (2.29 - 1.2 * free * (0.3 + corruption)) + 0.02 * rng.uniform()
            noise = corruption or 0.2 * (dataset == "cifar10")
            peak = noise * 9 * math.exp(-((math.log(n / threshold)) ** 2))
            test = 2.3 - rise * (1.9 - peak - 0.5 * free) + 0.1 * rng.uniform()
            acc = 0.1 + 0.9 * rise * (1 - 0.3 * free)
            values = metrics(train, 1.0 if acc > 0.99 else acc, test, 0.9 * acc)
            about = {"width": width, "train_size": size, "label_corruption": corruption}
            row = common(dataset, seed, model, n, 128 if corruption else 32, 0.002)
            yield row | about | {"epoch": epoch} | values


def interpolation(dataset, rng, height=1.6, controls=True):
    """Pairs of two approaches and controls of one; on cifar10 a CNN, one pair and fewer alphas."""
    pairs = [("batch_size", 64, 1024), ("lr", 0.001, 0.01)]
    pairs += [("batch_size", 64, 64), ("batch_size", 1024, 1024), ("lr", 0.01, 0.01)] * controls
    network, alphas = ("mlp-784-256-256-256-10", 335114), np.linspace(-1, 2, 61)
    if dataset == "cifar10":
        pairs = [pair for pair in pairs if pair[0] == "batch_size"]
        network, alphas = ("cnn-16", 24234), np.linspace(-1, 2, 31)
    for (pair, one, two), seed in itertools.product(pairs, range(3)):
        same = 0.8 if one == two else 1
        for alignment, part in (("none", 1), ("weight_matching", 0.03)):
            high = height * same * part * rng.uniform(0.8, 1.2)
            lengths = {"weight_norm_1": 30 + 0.1 * seed, "weight_norm_2": 31 + 0.1 * seed}
            lengths |= {"distance": (40 if alignment == "none" else 30) * same + 0.1 * seed}
            for alpha in alphas.round(2):
                out = max(0.0, -alpha, alpha - 1)
                bump = high * (4 * alpha * (1 - alpha)) ** 2 if out == 0 else 0
                loss = 0.02 + bump + 40 * (math.exp(5 * out) - 1)
                acc = 1 - min(0.9, 0.4 * bump + out)
                row = common(dataset, seed, *network) | {pair: "", "pair": pair}
                row |= {"setting_1": one, "setting_2": two, "alignment": alignment}
                row |= lengths | {"alpha": float(alpha)}
                yield row | metrics(loss, acc, 1.1 * loss + 0.06, acc - 0.02)


def interpolation_shared(dataset, rng):
    return interpolation(dataset, rng, height=0.05, controls=False)


def sensitivity(dataset, rng):
    """On cifar10 an MLP and a CNN, whose norms go the other way."""
    sizes, networks = [2**k for k in range(5, 13)], [("mlp-784-128-128-10", 118282)]
    if dataset == "cifar10":
        sizes, networks = [2**k for k in range(3, 11)], [("mlp-3072-128-128-10", 411146)]
        networks += [("cnn-16", 24234)]
    for network, size, seed, stop in itertools.product(networks, sizes, range(3), STOPS):
        train = 0.002 * size**0.5 if stop == "epochs" else 0.05
        train *= rng.uniform(0.9, 1.1)
        test = 0.08 + 0.004 * math.log2(size) + 0.5 * train
        grows = (0.03 if stop == "epochs" else 0.005) * math.log2(size) * rng.uniform(0.8, 1.2)
        norm = 0.3 + grows if network[0].startswith("mlp") else 3 - grows
        yield (
            common(dataset, seed, *network, batch_size=size)
            | {"stop": stop, "epoch": 20 if stop == "epochs" else round(4 + size / 300, 2)}
            | metrics(train, 1 - train / 4, test, 0.98 - test / 5)
            | {"test_confidence": 0.99 - test / 10}
            | {"input_gradient_norm_train": norm * 0.2, "input_gradient_norm_test": norm * 0.4}
            | {"jacobian_norm_train": norm * 0.1, "jacobian_norm_test": norm * 0.13}
        )


def sharpness(dataset, rng):
    """A row for each epsilon; only epsilon and the four sharpnesses differ between them."""
    approaches = [f"batch_size={n}" for n in (16, 32, 64, 256, 1024, 2048, 4096, 16384)]
    approaches += ["optimizer=momentum", "lr=0.01", "weight_decay=0.1", "dropout=0.1"]
    for (i, approach), seed, stop in itertools.product(enumerate(approaches), range(3), STOPS):
        train, loose = rng.uniform(0.001, 0.1), 0.02 if approach == "lr=0.01" else 1e-5
        h = 4 * 2.0 ** min(i, 4) * rng.uniform(0.8, 1.3) * (0.5 if stop == "train_loss" else 1)
        gradient = 0.02 * h * rng.uniform(0.8, 1.2)
        values = {"input_gradient_norm_test": 0.1 * h**0.3, "jacobian_norm_test": 0.05 * h**0.2}
        values |= {
            "parameter_gradient_norm": gradient,
            "hessian_norm": h,
            "hessian_norm_block": 0.7 * h,
        }
        test = 0.1 + 0.002 * h + 0.01 * rng.uniform()
        loss = metrics(train, 1 - train / 4, test, 0.99 - test / 5)
        about = {"approach": approach, "stop": stop, "epoch": 20}
        size = int(approach.removeprefix("batch_size=")) if i < 8 else 256
        row = common(dataset, seed, batch_size=size) | about | loss | values | {"residual": loose}
        box, adaptive = rng.uniform(80, 120), rng.uniform(80, 120)
        for epsilon in EPSILONS:
            of_epsilon = {"epsilon": epsilon, "sharpness": h * epsilon**2 / (2 + 2 * train)}
            of_epsilon |= {"sharpness_ball": gradient * epsilon + h * epsilon**2 / 2}
            of_epsilon |= {"sharpness_box": box * h * epsilon}
            yield row | of_epsilon | {"sharpness_adaptive": adaptive * gradient * epsilon}


def reparametrization(dataset, rng):
    scales = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 100.0)
    for scale, seed in itertools.product(scales, range(3)):
        h = 10 * (scale**2 + scale**-2) * rng.uniform(0.8, 1.2)
        values = {"max_output_change": 1e-6, "hessian_norm": h, "sharpness": h * 1.25e-7}
        values |= {"sharpness_box": 0.05 * h**0.5, "sharpness_adaptive": 0.01 + 0.001 * seed}
        values |= {"input_gradient_norm_test": 0.1, "jacobian_norm_test": 0.05}
        about = {"scale": scale} | metrics(0.01, 0.99, 0.1, 0.97)
        yield common(dataset, seed) | about | values


MAKERS = (random_labels, param_sweep, interpolation, interpolation_shared, sensitivity, sharpness)
MAKERS += (reparametrization,)


def write(folder, name, dataset, rows):
    rows, path = list(rows), folder / "logs" / f"{name}_{dataset}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, rows[0], lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    return path


def old(rows, maker):
    """Keep of a log what was in it before the new columns, epsilons, controls and networks."""
    new = (*NEW, *["sharpness_box"] * (maker is reparametrization))
    for row in rows:
        later = maker is sensitivity and row["model"].startswith("cnn")
        later |= row.get("epsilon", EPSILONS[0]) != EPSILONS[0]
        if not later and row.get("setting_1", 0) != row.get("setting_2", 1):
            yield {name: value for name, value in row.items() if name not in new}


def make(folder, dataset, names=None, aged=False):
    """Write logs of these names (default: all). aged: as they were before the new columns."""
    for maker in MAKERS:
        if names is None or maker.__name__ in names:
            rows = maker(dataset, np.random.default_rng(0))
            write(folder, maker.__name__, dataset, old(rows, maker) if aged else rows)
