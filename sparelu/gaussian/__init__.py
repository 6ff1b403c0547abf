"""Closed-form Gaussian moments of ReLU features: shared by recover, compress and certify."""

from sparelu.gaussian.hessian import cross_hessian as cross_hessian
from sparelu.gaussian.hessian import own_hessian as own_hessian
from sparelu.gaussian.kernels import arc_cosine as arc_cosine
from sparelu.gaussian.kernels import gated_gram as gated_gram
from sparelu.gaussian.kernels import relu_gram as relu_gram
from sparelu.gaussian.kernels import relu_kernel as relu_kernel
from sparelu.gaussian.kernels import support_gram as support_gram
from sparelu.gaussian.networks import NormalInputs as NormalInputs
from sparelu.gaussian.networks import TwoLayer as TwoLayer
from sparelu.gaussian.networks import first_moments as first_moments
from sparelu.gaussian.networks import inner as inner
from sparelu.gaussian.networks import squared_distance as squared_distance
from sparelu.gaussian.networks import squared_norm as squared_norm
from sparelu.gaussian.normal import bivariate_cdf as bivariate_cdf
