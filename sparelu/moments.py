"""Means and standard deviations of columns, pooled over pieces of rows and over ranks."""

import numpy as np
import torch

from sparelu.runtime.distributed import Ranks


class Moments:
    """Mean and standard deviation of columns, pooled over chunks (Chan, Golub & LeVeque 1983)."""

    def __init__(self, columns: int) -> None:
        self.n = 0
        self.mean = np.zeros(columns)
        self.square = np.zeros(columns)

    def add(self, part: np.ndarray) -> None:
        """Take the rows ``part`` (n, columns) into account."""
        part = part.astype(np.float64, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):  # the deviation is then infinite or NaN
            mean = part.mean(axis=0)
            gap, total = mean - self.mean, self.n + len(part)
            self.square += ((part - mean) ** 2).sum(axis=0) + gap**2 * self.n * len(part) / total
            self.mean += gap * len(part) / total
        self.n = total

    def result(self, ranks: Ranks) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (columns,) of the rows of all ranks, pooled about the mean of the first
        rank.
        """
        count = ranks.total(self.n)
        centre = ranks.from_first(torch.from_numpy(self.mean.copy())).numpy()
        mean = centre + ranks.sum(torch.from_numpy(self.n * (self.mean - centre))).numpy() / count
        square = ranks.sum(torch.from_numpy(self.square + self.n * (self.mean - mean) ** 2)).numpy()
        return mean, np.sqrt(square / count)
