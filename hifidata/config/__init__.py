"""The recipe: its sections, and the code that reads, overrides and checks a recipe file."""
