"""The best network of a budget where no sparse network made the data, neuron by neuron.

Read ``fitter`` first, then ``atoms`` (which neuron comes next) and ``neurons`` (all of them refitted).
"""
