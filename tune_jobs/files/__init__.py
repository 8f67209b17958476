"""A study's files: their names, their integrity, and what is stored once under its content."""
