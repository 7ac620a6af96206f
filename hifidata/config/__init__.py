"""The recipe: its sections, and how a recipe file is read, overridden and checked."""
