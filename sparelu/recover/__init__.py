"""Which sparse network made these data?"""

from sparelu.method import Method
from sparelu.recover.aiht import AIHT

METHODS: tuple[type[Method], ...] = (AIHT,)
