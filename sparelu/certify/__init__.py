"""What may be claimed of this network?"""

from sparelu.method import Method

METHODS: tuple[type[Method], ...] = ()
