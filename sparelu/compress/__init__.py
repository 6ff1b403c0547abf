"""Can fewer neurons say the same?"""

from sparelu.method import Method

METHODS: tuple[type[Method], ...] = ()
