"""The two tables of README.md, written from the logs between their marks."""

import json
import re

RESULTS = "<!-- results: written by hw1/report/build.py -->", "<!-- end of results -->"
SPEED = "<!-- speed: written by hw1/report/build.py -->", "<!-- end of speed -->"
FIGURE = "[{0}](hw1/figures/{0}.png)"
ROWS = [  # question, command, finding with the names of facts.py in braces, figures
    (
        "Can a network fit random labels?",
        "random_labels.py",
        (
            "With every label shuffled: train accuracy {rl.1.train_acc}, test accuracy"
            " {rl.1.test_acc}, test loss {rl.1.test_loss}. With true labels: test accuracy"
            " {rl.0.test_acc}."
        ),
        ["random_labels_mnist"],
    ),
    (
        "Do more parameters overfit?",
        "param_sweep.py",
        (
            "CIFAR-10 CNNs, {cnn.first.params} to {cnn.last.params} parameters: the test loss is"
            " lowest, {cnn.lowest.test_loss}, at {cnn.lowest.params} and {cnn.last.test_loss} at"
            " the end; the test accuracies there are {cnn.lowest.test_acc} and"
            " {cnn.last.test_acc}."
        ),
        ["param_sweep_cifar10"],
    ),
    (
        "And with label noise?",
        "param_sweep.py --dataset mnist",
        (
            "MNIST, {mlp.label_corruption} of the labels shuffled: test loss"
            " {mlp.valley.test_loss} at {mlp.valley.params} parameters, {mlp.peak.test_loss} at"
            " {mlp.peak.params} and {mlp.last.test_loss} at {mlp.last.params} (double descent)."
        ),
        ["param_sweep_mnist"],
    ),
    (
        "What lies between two models?",
        "interpolation.py",
        (
            "Test loss barrier between batch sizes {path.batch_size.one} and"
            " {path.batch_size.two}: {path.batch_size.different.none}; after weight matching"
            " {path.batch_size.different.weight_matching}; from one initialisation"
            " {path.batch_size.shared.none}. Between learning rates {path.lr.one} and"
            " {path.lr.two}: {path.lr.different.none}; {path.lr.different.weight_matching};"
            " {path.lr.shared.none}."
        ),
        ["interpolation_mnist"],
    ),
    (
        "Does the batch size change sensitivity?",
        "sensitivity.py",
        (
            "Kendall's tau of the test Jacobian norm with the batch size, at equal epochs and at"
            " equal train loss: MNIST {sens.epochs.jacobian_norm_test.tau} and"
            " {sens.train_loss.jacobian_norm_test.tau}; CIFAR-10"
            " {conv.epochs.jacobian_norm_test.tau} and {conv.train_loss.jacobian_norm_test.tau}."
            " Tau of the test loss with it at equal train loss: {sens.train_loss.test_loss.tau}"
            " and {conv.train_loss.test_loss.tau}."
        ),
        ["sensitivity_mnist", "sensitivity_cifar10"],
    ),
    (
        "Is a sharp minimum worse?",
        "sharpness.py",
        (
            "Hessian norm after equal epochs, batch size {sharp.first} to {sharp.last}:"
            " {sharp.epochs.first.hessian_norm} to {sharp.epochs.last.hessian_norm}. Its tau with"
            " the test loss over {sharp.approaches} approaches:"
            " {pred.sharpness.epochs.hessian_norm.test_loss}. Rescaling the weights by"
            " {scale.high} multiplies it by {scale.high.times} and changes the outputs by at most"
            " {scale.change} of the largest one."
        ),
        ["sharpness_mnist", "reparametrization_mnist"],
    ),
]
TIMED = {  # a comparison of benchmark.py, in words
    "mlp_epoch": "An epoch of the course's MNIST network, batch 64: times as fast as with a"
    " `DataLoader`",
    "cnn_epoch": "An epoch of a CIFAR-10 CNN of 100k parameters: times as fast as with a"
    " `DataLoader` and PyTorch's usual memory layout",
    "products_64": "The MNIST epoch, batch 64: times the duration of its bare matrix products",
    "products_512": "The same, batch 512",
    "instructions": "The MNIST epoch, batch 64, with AVX2: times the duration with the processor's"
    " own widest instructions",
    "two_runs": "Two runs in two processes: times the throughput of one after the other on all"
    " threads",
    "input_norms": "Both input norms of 10,000 images: times as fast as a loop over the images",
    "hessian_norm": "Hessian norm over 60,000 images: times as fast as PyHessian at equal error",
    "start": "From the start of `random_labels.py` to its first training step",
    "memory_jobs8_cifar10": "Peak memory of `sensitivity.py --dataset cifar10 --jobs 8`, all"
    " processes",
}


def results(numbers):
    """Return the table of results. numbers: {name: text}, from facts.py."""

    def filled(words):
        return re.sub(r"{([^}]+)}", lambda found: numbers[found[1]], words).replace("\u00a0", " ")

    lines = [
        filled(
            "Mean over {rl.seeds} seeds [lowest, highest]; tau with its 95% bootstrap interval."
            " Run on {run.device}."
        ),
        "",
        "| question | script | finding | figure |",
        "| --- | --- | --- | --- |",
    ]
    for question, command, finding, names in ROWS:
        figures = ", ".join(FIGURE.format(name) for name in names)
        lines.append(f"| {question} | `{command}` | {filled(finding)} | {figures} |")
    return lines


def speed(about):
    """Return the table of speed. about: the .json of the benchmark."""
    lines = ["| what | row | measured | wanted |", "| --- | --- | --- | --- |"]
    for row in about["summary"]:
        name, value = row["comparison"], row["value"]
        unit = {"seconds": " s", "MB": " MB"}.get(row["kind"], "")
        measured = (f"{value:,.0f}" if value >= 100 else f"{value:.2f}") + unit
        wanted = f"{row['sense']} {row['target']:,}{unit}"
        words = TIMED.get(name, name.replace("_", " "))
        lines.append(f"| {words} | `{name}` | {measured} | {wanted} |")
    return lines


def between(page, marks, lines):
    """Return the page with these lines between the two marks."""
    start, end = marks
    if page.count(start) != 1 or page.count(end) != 1 or page.index(end) < page.index(start):
        raise ValueError(f"README.md must have one line `{start}` and below it one line `{end}`.")
    return "\n".join([page[: page.index(start)] + start, "", *lines, "", page[page.index(end) :]])


def rewrite(page, numbers, logs):
    """Return the text of README.md with both tables made anew from the numbers and the logs."""
    about = json.loads((logs / "benchmark.json").read_text(encoding="utf-8"))
    return between(between(page, RESULTS, results(numbers)), SPEED, speed(about))
