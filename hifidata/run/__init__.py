"""Plan, executors, resume and replay: the code that runs a recipe. Only ``executors`` imports ray."""
