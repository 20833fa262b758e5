"""The built-in handlets, one file each."""
