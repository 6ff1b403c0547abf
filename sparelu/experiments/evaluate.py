"""What a returned network is worth, in float64, with the clock stopped."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from sparelu.data import Data
from sparelu.networks.network import Network

CHUNK = 8192


@dataclass(frozen=True)
class Measurement:
    """A network on some rows.

    ``nonzeros``, ``biases`` and ``skip_nonzeros`` are counted on the network. ``mse`` is the mean squared error over
    rows and targets (NaN for classification), ``r2`` the share of variance explained, ``psnr`` 20 log10 max|y| - 10
    log10 mse in decibels, ``accuracy`` the share of right labels and ``cross_entropy`` the mean in nats (NaN for
    regression). ``score`` is the accuracy or r2, ``score_error`` its standard error over the rows. Beside an accuracy
    stand the ``base_rate``, the share of the most frequent class, which needs no network; the ``balanced_accuracy``,
    the mean over classes of the share of right labels; and of two classes the ``auc``, the area under the ROC curve
    (NaN where ranks share the rows, or a class has none).
    """

    rows: int
    nonzeros: int
    biases: int
    skip_nonzeros: int
    score: float
    score_error: float
    mse: float = math.nan
    r2: float = math.nan
    psnr: float = math.nan
    accuracy: float = math.nan
    cross_entropy: float = math.nan
    base_rate: float = math.nan
    balanced_accuracy: float = math.nan
    auc: float = math.nan


def evaluate(network: Network, data: Data) -> Measurement:
    """Judge ``network`` on the rows of ``data``, in chunks, in float64; ranks that share the rows all get the same."""
    exact = network.to(torch.float64, "cpu")
    counts = (data.n, network.nonzeros, network.biases, network.skip_nonzeros)
    if data.task == "classification":
        return _classification(exact, data, counts)
    return _regression(exact, data, counts)


def _regression(network: Network, data: Data, counts: tuple[int, int, int, int]) -> Measurement:
    squares, fourths, top = 0.0, 0.0, 0.0
    for x, y in data.chunks(CHUNK):
        target = y.reshape(len(y), -1).astype(np.float64)
        row = ((network(x.astype(np.float64)).numpy() - target) ** 2).mean(axis=1)
        squares, fourths = squares + float(row.sum()), fourths + float((row**2).sum())
        top = max(top, float(np.abs(target).max()))
    squares, fourths = data.ranks.sum(torch.tensor([squares, fourths], dtype=torch.float64)).tolist()
    top = float(data.ranks.maximum(torch.tensor(top, dtype=torch.float64)))
    mse = squares / data.n
    variance = float((data.statistics.y_sd**2).mean())
    error = math.sqrt(max(fourths / data.n - mse**2, 0.0) / data.n) / variance
    psnr = math.inf if mse == 0 else 20 * math.log10(top) - 10 * math.log10(mse)
    r2 = 1 - mse / variance
    return Measurement(*counts, score=r2, score_error=error, mse=mse, r2=r2, psnr=psnr)


def _classification(network: Network, data: Data, counts: tuple[int, int, int, int]) -> Measurement:
    entropy, margins, seen = 0.0, [], []
    of_class = torch.zeros(2, len(data.classes), dtype=torch.float64)  # rows of each class, and those that are right
    for x, y in data.chunks(CHUNK):
        scores = network(x.astype(np.float64))
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        label = torch.as_tensor(y, dtype=torch.int64)
        right = (scores.argmax(dim=1) == label).to(torch.float64)
        of_class[0].index_add_(0, label, torch.ones_like(right))
        of_class[1].index_add_(0, label, right)
        entropy += float(torch.nn.functional.cross_entropy(scores, label, reduction="sum"))
        if len(data.classes) == 2:
            margins.append((scores[:, 1] - scores[:, 0]).numpy())
            seen.append(y)
    of_class = data.ranks.sum(of_class)
    entropy = float(data.ranks.sum(torch.tensor(entropy, dtype=torch.float64)))
    rows, right_rows = of_class[:, of_class[0] > 0]
    share = float(right_rows.sum()) / data.n
    known = margins and data.ranks.size == 1 and len(rows) == 2
    return Measurement(
        *counts,
        score=share,
        score_error=math.sqrt(share * (1 - share) / data.n),
        accuracy=share,
        cross_entropy=entropy / data.n,
        base_rate=float(rows.max()) / data.n,
        balanced_accuracy=float((right_rows / rows).mean()),
        auc=_area(np.concatenate(margins), np.concatenate(seen)) if known else math.nan,
    )


def _area(margin: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a row of class 1 is above one of class 0, ties counted half.

    It is the Mann-Whitney statistic: the ranks of the n1 rows of class 1 sum to n1 (n1 + 1) / 2 plus the pairs won.
    """
    from scipy.stats import rankdata  # heavy, and few commands want it

    ones = int((label == 1).sum())
    won = rankdata(margin)[label == 1].sum() - ones * (ones + 1) / 2
    return float(won / (ones * (len(label) - ones)))
