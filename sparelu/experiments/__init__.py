"""Measuring, sweeping and reporting: written against the three verbs, never against a method."""
