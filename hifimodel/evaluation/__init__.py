"""Measuring generated portraits: the paper's Table 1, with intervals, and with rows that show what the numbers mean.

The flow, one file each: ``setbuilder`` (people, prompts and seeds from shards) -> ``evalset`` (what a set is) ->
``runner`` (one picture per cell) -> ``faces`` (what the instruments say of one picture) -> ``metrics`` (numbers of one
picture) -> ``statistics`` and ``fid`` (numbers of a row, with intervals) -> ``report`` (all rows, and whether the sanity
rows come out in the right order) -> ``table`` (words).
"""
