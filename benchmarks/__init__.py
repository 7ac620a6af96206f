"""`make bench`: tables of ratios. Both sides of a ratio are measured in one run on this machine."""
