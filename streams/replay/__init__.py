"""Reading the log again: independent checks of what the pipeline made of it."""
