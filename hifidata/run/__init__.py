"""Plan, executors, resume, replay: what turns a recipe into a dataset folder. The only place that imports ray."""
