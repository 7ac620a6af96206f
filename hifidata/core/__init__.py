"""Shared foundation: schema, errors, base of configurations, atomic files. Imports no other package of hifidata."""
