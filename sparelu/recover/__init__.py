"""Which sparse network made these data?"""

from sparelu.method import Method
from sparelu.recover.aiht.fitter import AIHT
from sparelu.recover.exact.fitter import Exact
from sparelu.recover.pursuit.fitter import Pursuit

METHODS: tuple[type[Method], ...] = (Exact, AIHT, Pursuit)
