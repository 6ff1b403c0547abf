"""Which sparse network made these data?"""

from sparelu.method import Method
from sparelu.recover.aiht import AIHT
from sparelu.recover.exact import Exact
from sparelu.recover.pursuit import Pursuit

METHODS: tuple[type[Method], ...] = (Exact, AIHT, Pursuit)
