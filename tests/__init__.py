"""The tests, in the same tree as hemi."""
