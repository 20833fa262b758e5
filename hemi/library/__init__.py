"""General-purpose libraries that know nothing of Hemi and could live without it."""
