"""The built-in revisers, one file each."""
