"""Benchmarks: the same work done by Shoal and by Syncthing, two or more daemons each on this machine's loopback, in one
run.

`python -m bench` prints one JSON row a measurement, and the medians of each workload with their ratios at the end.
Linux only.
"""
