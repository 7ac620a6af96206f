"""`make bench`: tables of ratios, each measured in one run on this machine."""
