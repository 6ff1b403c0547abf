"""Sparse ReLU networks as values.

Read ``layer`` first (CSR, live rows only), then ``network`` (a chain of them), ``convolution``, ``canonical`` (one form
for every network of one function) and ``torch_modules`` (to and from ``torch.nn``).
"""
