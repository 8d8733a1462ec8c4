"""Benchmarks: the same work done by Shoal and by Syncthing, two daemons each on this machine's loopback, in one run.

`python -m bench` prints one JSON row a measurement and the medians with their ratio at the end. Linux only.
"""
