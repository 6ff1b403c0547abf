"""Which network answers these questions? A function is asked where its answers tell the most.

Read ``fitter`` first, then for one hidden layer ``one_layer`` with ``line``, ``kinks`` and ``jumps``; ``questions``
holds what was asked and the noise of the answers, ``hinges`` what is known so far, ``certificate`` what is claimed.
"""
