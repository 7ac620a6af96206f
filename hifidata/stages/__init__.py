"""The stages of the paper's section 3.4, one file each. ``table`` lists them in the order of execution."""
