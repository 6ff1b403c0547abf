"""Which network is optimal, and how far is this one from it?"""
