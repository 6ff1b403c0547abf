"""Can fewer neurons say the same?"""

from sparelu.compress.merge import Merge
from sparelu.compress.population import Population
from sparelu.compress.simplex import Simplex
from sparelu.method import Method

METHODS: tuple[type[Method], ...] = (Simplex, Population, Merge)
