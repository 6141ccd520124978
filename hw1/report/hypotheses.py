"""The hypotheses that the report tests, written down before the run whose logs decide them.

Each comes from a paper. It has a predicted sign, a function of the logs that returns the data of
its statistic (see evidence.py and curves.py), and a sentence in English and in Traditional Chinese,
in which {verb} stands for the words that depend on the verdict. verdicts.py decides all of them by
two rules. If an entry changes after the run, the commit says why and the report says so.
"""

from itertools import product

import curves
import evidence
from evidence import Hypothesis

ZHANG, ARPIT = "Zhang et al. 2017, arXiv 1611.03530", "Arpit et al. 2017, arXiv 1706.05394"
NAKKIRAN = "Belkin et al. 2019, arXiv 1812.11118; Nakkiran et al. 2020, arXiv 1912.02292"
FRANKLE = "Frankle et al. 2020, arXiv 1912.05671; Entezari et al. 2022, arXiv 2110.06296"
ENTEZARI = "Entezari et al. 2022, arXiv 2110.06296; Ainsworth et al. 2023, arXiv 2209.04836"
KESKAR, NOVAK = "Keskar et al. 2017, arXiv 1609.04836", "Novak et al. 2018, arXiv 1802.08760"
HOFFER, GUO = "Hoffer et al. 2017, arXiv 1705.08741", "Guo et al. 2017, arXiv 1706.04599"
DINH, KWON = "Dinh et al. 2017, arXiv 1703.04933", "Kwon et al. 2021, arXiv 2102.11600"
JIANG = "Jiang et al. 2020, arXiv 1912.02178; Dziugaite et al. 2020, arXiv 2010.11924"
STOPS = [("epochs", "equal epochs", "相同 epoch 數")]
STOPS += [("train_loss", "equal train loss", "相同訓練損失")]
NETWORKS = [("mnist", "mlp", "MNIST MLP"), ("cifar10", "mlp", "CIFAR-10 MLP")]
NETWORKS += [("cifar10", "cnn", "CIFAR-10 CNN")]
LINES = [  # pairs of runs on one line: name, (data set, pair), are both of one approach, in words
    ("batch_size", ("mnist", "batch_size"), False, "MNIST, two batch sizes", "MNIST，批次大小不同"),
    ("lr", ("mnist", "lr"), False, "MNIST, two learning rates", "MNIST，學習率不同"),
    ("control", ("mnist", ""), True, "MNIST, one approach", "MNIST，訓練方法相同"),
    ("cnn", ("cifar10", ""), False, "CIFAR-10 CNN, two batch sizes", "CIFAR-10 CNN，批次大小不同"),
]
SIZES = (4000, 50000)
SWEEPS = [(n, ("cifar10", n), f"CIFAR-10, {n:,} images", f"CIFAR-10，{n:,} 張影像") for n in SIZES]
SWEEPS += [("noise", ("mnist", 4000, 0.2), "MNIST with label noise", "MNIST，標籤有雜訊")]
CURVES = [("loss", "test loss", "測試損失"), ("error", "test error", "測試錯誤率")]
SIZE = [("batch_size", "with the batch size", "隨批次大小增加")]
GAPS = [("loss_gap", "the gap in loss", "與損失差距")]
GAPS += [("acc_gap", "the gap in accuracy", "與準確率差距")]
TARGETS = [("test_loss", "the test loss", "與測試損失"), *GAPS]
ACCURACY = ("test_acc", "test accuracy", "測試準確率")
GRADIENT = ("input_gradient_norm_test", "the norm of the input gradient", "輸入梯度的範數")
JACOBIAN = ("jacobian_norm_test", "the norm of the Jacobian", "Jacobian 的範數")
HESSIAN = ("hessian_norm", "the norm of the Hessian", "Hessian 的範數")
SHARPNESS = [("sharpness_ball", "sharpness in the ball", "球內的銳利度")]
SHARPNESS += [("sharpness_box", "sharpness in Keskar's box", "Keskar 箱內的銳利度")]
ADAPTIVE = ("sharpness_adaptive", "adaptive sharpness", "自適應銳利度")
PARAMETER = ("parameter_gradient_norm", "the norm of the parameter gradient", "參數梯度的範數")
SETTING = {"sensitivity": "batch_size", "sharpness": "approach"}  # permuted as a whole

# Five shares of shuffled labels have 120 orders, so that no two-sided p-value is below 1/60. With
# three such trends, Holm's correction would raise even the smallest to 3/60 = 0.05 or more, and
# nothing could be decided. So there are only two.
SINGLE = [  # name, sign, source, data, English, Chinese, kind if it is not "every seed"
    ("labels.epochs_to_fit", 1, ZHANG, curves.labels_trend(curves.epochs_to_fit_or_later),
     "MNIST: the number of epochs to 99% train accuracy {verb} with the fraction of shuffled labels",
     "MNIST：訓練準確率達 99% 所需的 epoch 數隨標籤打亂的比例增加{verb}", "trend"),
    ("labels.test_acc", -1, ZHANG, curves.labels_trend(curves.last("test_acc")),
     "MNIST: final test accuracy {verb} with the fraction of shuffled labels",
     "MNIST：最後的測試準確率隨標籤打亂的比例增加{verb}", "trend"),
    *[(f"sensitivity.{data}.{net}.longer", 1, HOFFER, evidence.gain(data, net),
       (f"{name}: the gain in test accuracy from equal epochs to equal train loss {{verb}} with"
        " the batch size"),
       f"{name}：由相同 epoch 數到相同訓練損失，測試準確率的增加量隨批次大小增加{{verb}}", "trend")
      for data, net, name in NETWORKS],
    ("labels.fits", 1, ZHANG, curves.labels(0.995, curves.last("train_acc"), 1),
     "MNIST, all labels shuffled: train accuracy ends above 99.5% {verb}",
     "MNIST，標籤全部打亂：訓練準確率最後超過 99.5%（{verb}）"),
    ("labels.chance", -1, ZHANG, curves.labels(0.02, curves.off_chance, 1),
     "MNIST, all labels shuffled: test accuracy ends within 2 points of chance, 10%, {verb}",
     "MNIST，標籤全部打亂：測試準確率最後與亂猜的 10% 相差不到 2 個百分點（{verb}）"),
    ("labels.control", 1, ZHANG, curves.labels(0.98, curves.last("test_acc"), 0),
     "MNIST, true labels, the same recipe: test accuracy ends above 98% {verb}",
     "MNIST，標籤正確，訓練方法相同：測試準確率最後超過 98%（{verb}）"),
    ("labels.patterns_first", 1, ARPIT, curves.labels(0.02, curves.fell_by, 0.25, 0.5, 0.75),
     "MNIST, some labels shuffled: test accuracy ends over 2 points below its best {verb}",
     "MNIST，部分標籤打亂：測試準確率最後比最高點低 2 個百分點以上（{verb}）"),
    *[(f"line.barrier.{name}", 1, FRANKLE, curves.paths(0.02, "error_barrier", *where, same),
       f"{en}, two seeds: a barrier of over 2 points of test error {{verb}}",
       f"{zh}、種子不同：測試錯誤率的障壁超過 2 個百分點（{{verb}}）")
      for name, where, same, en, zh in LINES],
    *[(f"line.shared.{name}", -1, FRANKLE,
       curves.paths(0.02, "error_barrier", *where, log="interpolation_shared"),
       f"{en}, one initialisation: a barrier of under 2 points of test error {{verb}}",
       f"{zh}、初始權重相同：測試錯誤率的障壁不到 2 個百分點（{{verb}}）")
      for name, where, _, en, zh in LINES[:2]],
    *[(f"line.matching.{name}", 1, ENTEZARI, curves.paths(0.5, "test_removed", *where, same),
       f"{en}, two seeds: matching removes most of the barrier in test loss {{verb}}",
       f"{zh}、種子不同：對齊神經元可去除測試損失障壁的一半以上（{{verb}}）")
      for name, where, same, en, zh in LINES],
    *[(f"size.{n}.minimum", 1, NAKKIRAN, curves.sweep(0, curves.inside, "cifar10", n),
       f"CIFAR-10, {n:,} images: the test loss is lowest inside the sweep of widths {{verb}}",
       f"CIFAR-10，{n:,} 張影像：測試損失最低的寬度，既非最窄也非最寬（{{verb}}）") for n in SIZES],
    *[(f"size.{n}.accuracy", 1, NAKKIRAN, curves.sweep(-0.01, curves.below_best, "cifar10", n),
       f"CIFAR-10, {n:,} images: the largest CNN is within a point of the best accuracy {{verb}}",
       f"CIFAR-10，{n:,} 張影像：最大的 CNN 測試準確率與最高者相差不到 1 個百分點（{{verb}}）")
      for n in SIZES],
    *[(f"size.{where}.descent.{what}", 1, NAKKIRAN,
       curves.sweep(0.05, curves.descent(what), *part, beyond=True),
       f"{en}: the {curve} peaks 5% above both a narrower width and the widest {{verb}}",
       f"{zh}：{name}有峰，比某個較窄的網路與最寬的網路都高 5% 以上（{{verb}}）")
      for (where, part, en, zh), (what, curve, name) in product(SWEEPS, CURVES)],
    *[(f"sensitivity.{data}.{net}.overconfident", 1, GUO, evidence.overconfidence(data, net),
       f"{name}, equal epochs: test confidence exceeds test accuracy {{verb}}",
       f"{name}，相同 epoch 數：測試集上的平均信心高於準確率（{{verb}}）") for data, net, name in NETWORKS],
    ("sharpness.rescaling.function", -1, DINH, evidence.rescaled(1e-3, "max_output_change", True),
     "MNIST, weights rescaled: the outputs change by less than 0.1% {verb}",
     "MNIST，權重重新縮放：輸出的變化不到 0.1%（{verb}）"),
    ("sharpness.rescaling.hessian", 1, DINH, evidence.rescaled(2, "hessian_norm"),
     "MNIST, weights rescaled: the norm of the Hessian more than doubles {verb}",
     "MNIST，權重重新縮放：Hessian 的範數變為兩倍以上（{verb}）"),
    ("sharpness.rescaling.box", 1, DINH, evidence.rescaled(2, "sharpness_box"),
     "MNIST, weights rescaled: sharpness in Keskar's box more than doubles {verb}",
     "MNIST，權重重新縮放：Keskar 箱內的銳利度變為兩倍以上（{verb}）"),
    ("sharpness.rescaling.adaptive", -1, KWON, evidence.rescaled(1.05, "sharpness_adaptive"),
     "MNIST, weights rescaled: adaptive sharpness changes by less than 5% {verb}",
     "MNIST，權重重新縮放：自適應銳利度的變化不到 5%（{verb}）"),
]  # fmt: skip


def related(data, what, log, where, names, measures, goals, source):
    """Yield a hypothesis for each measure and goal: that the one grows with the other.

    names: of the network or the data set, and of the stop: (English, Chinese).
    Test accuracy is predicted to fall.
    """
    for (measure, english, chinese), (goal, goal_en, goal_zh) in product(measures, goals):
        yield Hypothesis(
            f"{what}.{measure}.{goal}",
            -1 if measure == "test_acc" else 1,
            source,
            evidence.models(log, data, measure, goal, SETTING[log], **where),
            f"{names[0]}: {english} {{verb}} {goal_en}",
            f"{names[1]}：{chinese}{goal_zh}{{verb}}",
            "trend" if goal == "batch_size" else "correlation",
        )


def generated():
    """Yield the trends and correlations that are tested at both stops, for each log."""
    for stop, english, chinese in STOPS:
        for data, net, name in NETWORKS:
            log = (data, f"sensitivity.{data}.{net}.{stop}", "sensitivity")
            log += ({"model": net, "stop": stop}, (f"{name}, {english}", f"{name}，{chinese}"))
            yield from related(*log, [GRADIENT, JACOBIAN], SIZE, NOVAK)
            yield from related(*log, [ACCURACY], SIZE, KESKAR)
            yield from related(*log, [JACOBIAN], GAPS, NOVAK)
        where, names = {"stop": stop, "epsilon": 5e-4}, (f"MNIST, {english}", f"MNIST，{chinese}")
        sizes = where | {"approach": "batch_size="}
        log = ("mnist", f"sharpness.{stop}", "sharpness")
        yield from related(*log, sizes, names, [HESSIAN, ACCURACY], SIZE, KESKAR)
        for epsilon in (1e-4, 5e-4, 1e-3):  # Keskar et al. used the last two
            log = ("mnist", f"sharpness.{stop}.{epsilon:g}", "sharpness")
            at = [f"{name}, ε = {epsilon:g}" for name in names]
            yield from related(*log, sizes | {"epsilon": epsilon}, at, SHARPNESS, SIZE, KESKAR)
        log = ("mnist", f"predictors.{stop}", "sharpness")
        measures = [GRADIENT, JACOBIAN, PARAMETER, HESSIAN, *SHARPNESS, ADAPTIVE]
        yield from related(*log, where, names, measures, TARGETS, JIANG)


HYPOTHESES = [*(Hypothesis(*entry) for entry in SINGLE), *generated()]
