"""Which is the sparsest network through these points?"""

from sparelu.interpolate.few_weights import FewWeights
from sparelu.interpolate.piecewise import Piecewise
from sparelu.interpolate.reweighted import Reweighted
from sparelu.interpolate.univariate import Univariate
from sparelu.method import Method

METHODS: tuple[type[Method], ...] = (Univariate, Piecewise, FewWeights, Reweighted)
