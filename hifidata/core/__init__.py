"""What every other package shares: schema, errors, base of configs, atomic files. Imports nothing of ours."""
