"""The built-in servers that belong to no protocol's package, one file each."""
