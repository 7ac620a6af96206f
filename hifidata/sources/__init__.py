"""Where candidates come from: folders, shards. `hifidata.run.plan.open_source` maps a recipe to one of them."""
