"""The benchmark: training steps of this package and of its peers, timed."""
