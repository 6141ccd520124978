"""The words of the tables in README.md; readme.py fills in the numbers."""

LARGER = "With larger batches, at equal train loss, "
ROWS = [  # question, command, answers, finding with the names of facts.py in braces, figures
    # An answer: a statement, the words if it is supported, contradicted, undecided.
    (
        "Can a network fit random labels?",
        "random_labels.py",
        [("labels.fits", "Yes", "No", "On some seeds only")],
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
        [
            (
                "size.50000.minimum",
                *(f"By test loss: {x} with 50,000 images" for x in ("yes", "no", "unclear")),
            ),
            ("size.4000.minimum", *(f"{x} with 4,000" for x in ("yes", "no", "unclear"))),
            (
                "size.50000.accuracy",
                *(f"by test accuracy: {x} with 50,000" for x in ("no", "yes", "unclear")),
            ),
            ("size.4000.accuracy", *(f"{x} with 4,000" for x in ("no", "yes", "unclear"))),
        ],
        (
            "CNNs on {whole.train_size} CIFAR-10 images: the test loss is lowest,"
            " {whole.lowest.test_loss}, at {whole.lowest.params} parameters and"
            " {whole.last.test_loss} at {whole.last.params}, the widest; the test accuracy is"
            " highest, {whole.best.test_acc}, at {whole.best.params}{whole.widest}. On"
            " {small.train_size}: lowest test loss"
            " {small.lowest.test_loss} at {small.lowest.params}, {small.last.test_loss} at"
            " {small.last.params}; highest test accuracy"
            " {small.best.test_acc} at {small.best.params}, {small.last.test_acc} at the widest,"
            " whose train accuracy is {small.last.train_acc}."
        ),
        ["param_sweep_cifar10"],
    ),
    (
        "And with label noise?",
        "param_sweep.py --dataset mnist",
        [
            (
                "size.noise.descent.loss",
                "The test loss rises and falls again: double descent",
                "The test loss does not fall again",
                "The test loss falls again on some seeds only",
            )
        ],
        (
            "{noise.train_size} MNIST images, {noise.label_corruption} of the labels shuffled: test"
            " loss {noise.loss.valley.test_loss} at {noise.loss.valley.params} parameters,"
            " {noise.loss.peak.test_loss} at {noise.loss.peak.params} and {noise.last.test_loss} at"
            " {noise.last.params}; test accuracies {noise.loss.valley.test_acc},"
            " {noise.loss.peak.test_acc} and {noise.last.test_acc}."
        ),
        ["param_sweep_mnist"],
    ),
    (
        "What lies between two models?",
        "interpolation.py",
        [
            (
                "line.barrier.control",
                "A barrier, even between two runs of one approach",
                "No barrier between two runs of one approach",
                "A barrier between some pairs of runs of one approach",
            )
        ],
        (
            "Test loss barrier on MNIST between batch sizes {path.batch_size.one} and"
            " {path.batch_size.two}: {path.batch_size.different.none}; after weight matching"
            " {path.batch_size.different.weight_matching}; from one initialisation"
            " {path.batch_size.shared.none}. Between learning rates {path.lr.one} and"
            " {path.lr.two}: {path.lr.different.none}; after weight matching"
            " {path.lr.different.weight_matching}; from one initialisation"
            " {path.lr.shared.none}. Between two runs of one approach: {path.control.none.low} to"
            " {path.control.none.high}."
        ),
        ["interpolation_mnist", "interpolation_cifar10"],
    ),
    (
        "Does the batch size change sensitivity?",
        "sensitivity.py",
        [
            (
                "sensitivity.mnist.mlp.train_loss.jacobian_norm_test.batch_size",
                f"{LARGER}the MLP on MNIST is more sensitive",
                f"{LARGER}the MLP on MNIST is less sensitive",
                f"{LARGER}the MLP on MNIST shows no clear change",
            ),
            (
                "sensitivity.cifar10.mlp.train_loss.jacobian_norm_test.batch_size",
                "the MLP on CIFAR-10 is more sensitive",
                "the MLP on CIFAR-10 is less sensitive",
                "the MLP on CIFAR-10 shows no clear change",
            ),
            (
                "sensitivity.cifar10.cnn.train_loss.jacobian_norm_test.batch_size",
                "the CNN is more sensitive",
                "the CNN is less sensitive",
                "the CNN shows no clear change",
            ),
        ],
        (
            "Kendall's tau of the test Jacobian norm with the batch size, at equal epochs and at"
            " equal train loss: MNIST MLP"
            " {sensitivity.mnist.mlp.epochs.jacobian_norm_test.batch_size} and"
            " {sensitivity.mnist.mlp.train_loss.jacobian_norm_test.batch_size}; CIFAR-10 MLP"
            " {sensitivity.cifar10.mlp.epochs.jacobian_norm_test.batch_size} and"
            " {sensitivity.cifar10.mlp.train_loss.jacobian_norm_test.batch_size}; CIFAR-10 CNN"
            " {sensitivity.cifar10.cnn.epochs.jacobian_norm_test.batch_size} and"
            " {sensitivity.cifar10.cnn.train_loss.jacobian_norm_test.batch_size}; the last within"
            " each seed: {conv.cnn.train_loss.jacobian.seeds}."
        ),
        ["sensitivity_mnist", "sensitivity_cifar10"],
    ),
    (
        "Is a sharp minimum worse?",
        "sharpness.py",
        [
            (
                "predictors.train_loss.hessian_norm.test_loss",
                "At equal train loss its test loss is higher",
                "At equal train loss its test loss is lower",
                "At equal train loss no clear relation to the test loss",
            )
        ],
        (
            "Hessian norm at equal train loss, batch size {sharp.first} to {sharp.last}:"
            " {sharp.train_loss.first.hessian_norm} to {sharp.train_loss.last.hessian_norm}. Its"
            " tau with the test loss over {sharp.approaches} approaches:"
            " {predictors.train_loss.hessian_norm.test_loss}. Multiplying one layer by {scale.high}"
            " and dividing the next by it multiplies the norm by {scale.high.hessian_norm.times}"
            " and changes the outputs by at most {scale.change} of the largest one."
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
PREDICTED = ["what was predicted", "source", "what we found", "effect", "verdict"]
VERDICTS_TOLD = (
    "Before the run that is shown here, we wrote down {count.all} statements, each with its"
    " statistic and its predicted sign. Each applies a claim or a question of the literature to"
    " networks that two processor cores can train. By then there had been earlier runs with the"
    " same seeds, and the thresholds were chosen after one of those. The logs support"
    " {count.supported}, contradict {count.contradicted}, leave {count.undecided} undecided and"
    " cannot test {count.not tested}: see [verdicts.csv](hw1/figures/verdicts.csv)."
    ' "Contradicted" refers to the statement about our networks, not to the paper. The table has'
    " the main statements and all that are"
    " contradicted; of the trends with the batch size, the main ones are those of the Jacobian, the"
    " Hessian and test accuracy at equal train loss, and of the measures that may predict how well"
    " a network generalises, the main ones are those that are decided at equal train loss.\n\n"
    "How to read the table: the terms are explained in [hw1/README.md](hw1/README.md)."
    ' "MNIST MLP" is the network of `sensitivity.py`; "MNIST" with the batch size or a measure is'
    " that of `sharpness.py`, another MLP. A run is a network, a pair or a sweep of"
    " widths. The effect of a trend or a correlation is Kendall's tau with its 95% interval,"
    " which decides nothing: a verdict needs p < 0.05 after Holm's correction. The effect in a"
    " statement about every run is the mean [lowest, highest] of the quantity that is predicted to"
    " lie above or below a threshold. Accuracies, errors, peaks and the share that matching"
    " removes are fractions; a lowest loss inside the sweep is given as the nats by which it is"
    " below both ends, a rescaled measure as its largest value over its smallest."
)
OTHER_SEEDS = (
    "Would other seeds say the same? After every statement and threshold had been fixed, the"
    " experiments whose logs are in"
    " [hw1/logs/replication](hw1/logs/replication){replication.but} were run again with the"
    " seeds {replication.seeds} on another processor ({replication.device}). Of the"
    " {replication.tested} statements that both sets of logs can test, {replication.alike} are"
    " decided alike, {replication.undecided} are undecided in both, {replication.once} are"
    " decided in only one of the two sets ({replication.gained} of them in the new one), and"
    " {replication.opposite} have opposite verdicts. The last column of `verdicts.csv` has the"
    " verdict of each statement with the new seeds. Everything else on this page is from the first"
    " set."
)
