"""Image search APIs: one file per provider; ``providers.PROVIDERS`` lists them."""
