"""Sparsity by whole channels.

Read ``chase`` first (Chase: dynamic sparsity that ends in fewer channels), then ``channel_groups`` (channels that must
go together) and ``remove`` (a smaller module of the same function).
"""
