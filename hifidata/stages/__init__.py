"""The steps of the paper's section 3.4, one file each. ``table`` lists them in the order in which they run."""
