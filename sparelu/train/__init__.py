"""How does a network become sparse while it learns?"""

from sparelu.method import Method

METHODS: tuple[type[Method], ...] = ()
