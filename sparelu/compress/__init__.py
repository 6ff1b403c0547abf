"""Can fewer neurons say the same?

Read ``merge`` (the same function), ``population`` (the best under a Gaussian) and ``simplex`` (a closed form for random
layers); ``projection`` and ``refit`` fit the weights, ``starts`` and ``frames`` begin them, ``bounds`` say how far off.
"""
