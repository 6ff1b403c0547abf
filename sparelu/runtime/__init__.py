"""What a running process has: ``resources`` measures its time and memory, ``distributed`` its ranks.

Neither knows of networks or methods.
"""
