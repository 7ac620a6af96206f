"""The command line: parses arguments, calls functions, prints results."""
