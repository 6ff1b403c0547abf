"""How does a network become sparse while it learns?"""

from sparelu.method import Method
from sparelu.train.imp import IterativePruning
from sparelu.train.magnitude import GradualPruning, OneShotPruning

METHODS: tuple[type[Method], ...] = (GradualPruning, OneShotPruning, IterativePruning)
