"""Made-up logs of every experiment, with the columns of real ones and curves of known shape."""

import csv
import itertools
import math

import numpy as np


def common(dataset, seed, batch_size=512, lr=0.001, n_params=335114):
    names = ("dataset", "model", "n_params", "optimizer", "lr", "batch_size", "seed")
    return dict(zip(names, (dataset, "mlp", n_params, "adam", lr, batch_size, seed), strict=True))


def metrics(train_loss, train_acc, test_loss, test_acc):
    names = ("train_loss", "train_acc", "test_loss", "test_acc")
    return dict(zip(names, (train_loss, train_acc, test_loss, test_acc), strict=True))


def random_labels(dataset, rng):
    for level, seed in itertools.product((0, 0.25, 0.5, 0.75, 1), range(3)):
        slow = 1 + 12 * level + 0.3 * rng.normal()
        for epoch in range(0, 201, 2):
            fit = math.exp(-epoch / (4 * slow))
            loss = 2.3 * fit + 1e-3 * rng.uniform(0.5, 2)
            test = (
                0.07 + 0.1 * epoch / 200 + level * (2.3 + 11 * (1 - fit)) + 2.2 * fit * (1 - level)
            )
            values = metrics(loss, 1 - 0.9 * fit, test, (1 - 0.9 * fit) * (0.98 - 0.88 * level))
            about = {"label_corruption": level, "epoch": epoch}
            yield common(dataset, seed) | about | values


def param_sweep(dataset, rng):
    for (corruption, size), seed in itertools.product(((0, 60000), (0.2, 4000)), range(3)):
        for width, epoch in itertools.product((4, 8, 16, 32, 64, 128, 256, 1024), (0, 250, 500)):
            n, rise = 795 * width, (1 - math.exp(-epoch / 80))
            free = 1 / (1 + (n / 16000) ** 3)
            train = 2.3 - rise * (2.29 - 1.2 * free * (0.3 + corruption)) + 0.02 * rng.uniform()
            peak = corruption * 9 * math.exp(-((math.log(n / 20000)) ** 2))
            test = 2.3 - rise * (1.9 - peak - 0.5 * free) + 0.1 * rng.uniform()
            acc = 0.1 + 0.9 * rise * (1 - 0.3 * free)
            values = metrics(train, 1.0 if acc > 0.99 else acc, test, 0.9 * acc)
            about = {"width": width, "train_size": size, "label_corruption": corruption}
            yield common(dataset, seed, n_params=n) | about | {"epoch": epoch} | values


def interpolation(dataset, rng, height=1.6):
    pairs = (("batch_size", 64, 1024), ("lr", 0.001, 0.01))
    for (pair, one, two), seed in itertools.product(pairs, range(3)):
        for alignment, high in (("none", height), ("weight_matching", 0.03 * height)):
            high *= rng.uniform(0.8, 1.2)
            for alpha in np.linspace(-1, 2, 61).round(3):
                out = max(0.0, -alpha, alpha - 1)
                bump = high * (4 * alpha * (1 - alpha)) ** 2 if out == 0 else 0
                loss = 0.02 + bump + 40 * (math.exp(5 * out) - 1)
                acc = 1 - min(0.9, 0.4 * bump + out)
                row = common(dataset, seed) | {pair: "", "pair": pair, "setting_1": one}
                row |= {"setting_2": two, "alignment": alignment, "alpha": float(alpha)}
                yield row | metrics(loss, acc, 1.1 * loss + 0.06, acc - 0.02)


def interpolation_shared(dataset, rng):
    return interpolation(dataset, rng, height=0.05)


def sensitivity(dataset, rng):
    sizes = (16, 64, 256, 1024, 4096, 16384)
    for size, seed, stop in itertools.product(sizes, range(3), ("epochs", "train_loss")):
        train = 0.002 * size**0.5 if stop == "epochs" else 0.05
        train *= rng.uniform(0.9, 1.1)
        test = 0.08 + 0.004 * math.log2(size) + 0.5 * train
        norm = 0.3 + (0.03 if stop == "epochs" else 0.005) * math.log2(size) * rng.uniform(0.8, 1.2)
        yield (
            common(dataset, seed, batch_size=size)
            | {"stop": stop, "epoch": 20}
            | metrics(train, 1 - train / 4, test, 0.98 - test / 5)
            | {"input_gradient_norm_train": norm * 0.2, "input_gradient_norm_test": norm * 0.4}
            | {"jacobian_norm_train": norm * 0.1, "jacobian_norm_test": norm * 0.13}
        )


def sharpness(dataset, rng):
    approaches = [f"batch_size={2**k}" for k in (5, 8, 11, 14)]
    approaches += ["optimizer=sgd", "optimizer=rmsprop", "lr=0.01", "lr=0.0001"]
    approaches += ["dropout=0.2", "weight_decay=0.01", "label_smoothing=0.1"]
    for (i, approach), seed, stop in itertools.product(
        enumerate(approaches), range(3), ("epochs", "train_loss")
    ):
        train, loose = rng.uniform(0.001, 0.1), 0.02 if approach == "lr=0.01" else 1e-5
        h = 4 * 2.0 ** min(i, 4) * rng.uniform(0.8, 1.3) * (0.5 if stop == "train_loss" else 1)
        gradient = 0.02 * h * rng.uniform(0.8, 1.2)
        values = {"input_gradient_norm_test": 0.1 * h**0.3, "jacobian_norm_test": 0.05 * h**0.2}
        values |= {
            "parameter_gradient_norm": gradient,
            "hessian_norm": h,
            "hessian_norm_block": 0.7 * h,
        }
        values |= {"residual": loose, "epsilon": 1e-4, "sharpness": h * 5e-9 / (1 + train)}
        values |= {"sharpness_ball": gradient * 1e-4, "sharpness_box": 0.01 * h}
        loss = metrics(train, 0.99, 0.1 + 0.002 * h + 0.01 * rng.uniform(), 0.97)
        about = {"approach": approach, "stop": stop, "epoch": 20}
        yield common(dataset, seed) | about | loss | values


def reparametrization(dataset, rng):
    for scale, seed in itertools.product(2.0 ** np.arange(-5, 6), range(3)):
        h = 10 * (scale**2 + scale**-2) * rng.uniform(0.8, 1.2)
        values = {"max_output_change": 1e-6, "hessian_norm": h, "sharpness": h * 5e-9}
        values |= {"input_gradient_norm_test": 0.1, "jacobian_norm_test": 0.05}
        about = {"scale": float(scale)} | metrics(0.01, 0.99, 0.1, 0.97)
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


def make(folder, dataset, names=None):
    for maker in MAKERS:
        if names is None or maker.__name__ in names:
            write(folder, maker.__name__, dataset, maker(dataset, np.random.default_rng(0)))
