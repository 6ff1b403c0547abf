"""``python -m sparelu`` is the command ``sparelu``."""

from sparelu.cli.__main__ import main

main()
