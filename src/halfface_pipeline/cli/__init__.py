"""The command line `halfface`."""
