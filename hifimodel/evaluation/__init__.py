"""Evaluation of generated portraits: the paper's Table 1, with intervals and with sanity rows of real photos.

The flow, one file each: ``setbuilder`` (identities, prompts and seeds from shards) -> ``evalset`` (format of a set) ->
``runner`` (one image per cell) -> ``faces`` (measurements of one image) -> ``metrics`` (numbers of one image) ->
``statistics`` and ``fid`` (numbers of a row, with intervals) -> ``report`` (all rows, and the order of the sanity rows) ->
``table`` (text).
"""
