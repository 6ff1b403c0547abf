"""Which is the sparsest network through these points?"""

from sparelu.method import Method

METHODS: tuple[type[Method], ...] = ()
