"""Which sparse network made these data?"""

from sparelu.method import Method

METHODS: tuple[type[Method], ...] = ()
