"""The report's experiments: each gives a picture, a table, and everything needed to repeat it."""
