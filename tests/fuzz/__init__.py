"""Files that somebody forged, for every reader: ``mutations`` makes them, ``readers`` says who reads what.

``python -m tests.fuzz --count 1000000`` runs so many over all readers (``make fuzz``).
"""
