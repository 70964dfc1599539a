"""The kinds of models that an experiment can name."""
