"""What lies on the line between two trained models?

From different seeds and from one initialisation: is there a barrier of loss between models trained
with batch size 64 and 1024, or with learning rate 1e-3 and 1e-2? How much of it is left when the
second's hidden units are permuted onto the first's (weight matching)? The controls are two runs of
one approach from different seeds. (Goodfellow et al. 2015, arXiv 1412.6544; Frankle et al. 2020,
1912.05671; the barrier as in Entezari et al. 2022, 2110.06296; matching: Ainsworth et al. 2023,
2209.04836.)

Found: on MNIST a barrier in test loss of 1.65 nats between the batch sizes, 0.59 nats after
matching, 0.00 from one initialisation, and 1.44 to 2.09 in the controls. MNIST took 11 and CIFAR-10
21 minutes, most of them beside another experiment, on two cores of an Intel Xeon.

    python hw1/interpolation.py                      # MLPs on MNIST
    python hw1/interpolation.py --dataset cifar10    # CNNs on CIFAR-10

writes hw1/logs/interpolation_NAME.csv (different seeds) and interpolation_shared_NAME.csv (both
models from one initialisation). theta(alpha) = (1 - alpha) theta_1 + alpha theta_2.
"""

import sys
from functools import cache

from lab import flags, runs, settings
from lab.landscape import parameter_vector
from lab.line import along

import data
import train
from symmetries import match_weights

EPOCHS = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "digits": 100}
HIDDEN = (256, 256, 256)
PAIRS = {  # a key of the setting that is not in NO_PAIR: its two values, and what both runs share
    "batch_size": ((64, 1024), {"lr": 1e-3}),
    "lr": ((1e-3, 1e-2), {"batch_size": 1024}),
}
NO_PAIR = ("dataset", "seed", "train_size", "test_size")  # a line is measured on one set of data
CNN, CNN_PAIRS = "cnn-16", ("batch_size",)  # on CIFAR-10; fewer pairs, as CNNs take long
COLUMNS = ("pair", "setting_1", "setting_2", "alignment", "weight_norm_1", "weight_norm_2")
COLUMNS += ("distance", "alpha", *train.METRICS)
SEED_OFFSET = 1000  # the second model's seed is the first one's plus this


def main():
    """Train the pairs, from different seeds and from a shared one; measure along the line."""
    args = flags.arguments(__doc__, dataset="mnist", epochs=EPOCHS, quick_epochs=3)
    convolutional = args.dataset == "cifar10"
    model = CNN if convolutional else settings.mlp_for(args.dataset, *HIDDEN)
    pairs = {k: v for k, v in PAIRS.items() if k in CNN_PAIRS or not convolutional}
    alphas = grid(4 if args.quick else 10 if convolutional else 20)
    tasks, seen = [], []
    for pair, (values, shared) in pairs.items():
        controls = [(value, value) for value in values]  # one approach twice, for comparison
        lines = [("interpolation", ends, SEED_OFFSET) for ends in (values, *controls)]
        for log, ends, shift in [*lines, ("interpolation_shared", values, 0)]:
            for seed in args.seeds:
                first, second = (
                    settings.setting(
                        args, **({"model": model, "seed": seed} | shared | {pair: value})
                    )
                    for value in ends
                )
                second["seed"] += shift
                if (log, first, second) not in seen:
                    seen.append((log, first, second))
                    task = {"log": log, "pair": pair, "alphas": alphas, "runs": [first, second]}
                    tasks.append(task)
    logs = dict.fromkeys(("interpolation", "interpolation_shared"), COLUMNS)
    return runs.run(args, logs, tasks, measure, check)


def grid(parts):
    """Return alphas from -1 to 2: [0, 1], where a barrier lies, in an even number of equal parts.

    Outside of it they are twice as far apart.
    """
    return [k / parts for k in range(-parts, 2 * parts + 1) if 0 <= k <= parts or k % 2 == 0]


@cache
def unmatchable(first, second, dataset):
    """Return why the units of two such networks cannot be matched, or None."""
    settings_of_both = (train.SETTING | {"model": m, "dataset": dataset} for m in (first, second))
    try:
        match_weights(*map(train.network, settings_of_both))
    except ValueError as error:
        names = " and ".join(dict.fromkeys((first, second)))
        return f"the units of {names} cannot be matched: {error}"
    return None


def check(task):
    """Raise SettingError if the two models of the task cannot be matched or have no line."""
    pair = task["pair"]
    if pair in NO_PAIR or any(run[pair] is None for run in task["runs"]):
        why = f"it is one of {', '.join(NO_PAIR)}, or a value is None"
        raise settings.SettingError(f"there can be no line for the pair {pair}: {why}")
    if why := unmatchable(*(run["model"] for run in task["runs"]), task["runs"][0]["dataset"]):
        raise settings.SettingError(why)


def measure(task, states, tensors):
    """Return a row for each alpha, without and with the second model's units matched."""
    first, second = (
        train.network(setting, state["stops"]["epochs"]["weights"])
        for setting, state in zip(task["runs"], states, strict=True)
    )
    pair = task["pair"]
    row = settings.common(task["runs"][0])
    row |= {pair: ""} if pair in row else {}
    row |= {"pair": pair, "setting_1": task["runs"][0][pair], "setting_2": task["runs"][1][pair]}
    ends = {"none": second, "weight_matching": match_weights(first, second)}
    tensors = data.prepare(task["runs"][0] | {"label_corruption": 0.0}, tensors)
    for model in (first, *ends.values()):
        model.to(tensors[0].device)
    rows, last = [], None
    for alignment, end in ends.items():
        one, two = (parameter_vector(model) for model in (first, end))
        row |= {"alignment": alignment, "weight_norm_1": one.norm().item()}
        row |= {"weight_norm_2": two.norm().item(), "distance": (two - one).norm().item()}
        if last is None or not two.equal(last):  # matching may leave every unit at its place
            line, last = list(along(first, end, task["alphas"], *tensors)), two
        rows += [row | {"alpha": alpha} | values for alpha, values in line]
    return rows


if __name__ == "__main__":
    sys.exit(runs.start(main))
