"""Image search by services that offer it as an API: one file per provider, ``providers.PROVIDERS`` lists them."""
