"""The benchmark: `python -m bench` measures NI on this machine and prints what it found.

Every figure of one report comes from one run. Ratios are taken between neighbours of the same
round, because a machine's speed drifts more within an hour than most changes are worth.
"""
