"""The standard socklets, one a file."""
