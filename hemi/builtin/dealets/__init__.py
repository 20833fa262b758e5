"""The built-in dealets, one file each."""
