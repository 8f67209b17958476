"""Studies: one file is one experiment, a script that a person runs."""
