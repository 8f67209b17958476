"""The stages of a sweep, in order."""
