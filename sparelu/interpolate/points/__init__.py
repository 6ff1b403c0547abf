"""Interpolants of points in any dimension, counted by their weights.

Read ``direct`` first (a network of at most one weight a point), then ``backward`` (weights eliminated one by one),
``refit``, ``path_prox`` (the published descent) and ``integer_program`` (the least count, by enumeration).
"""
