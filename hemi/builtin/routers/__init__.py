"""The built-in routers, one file each."""
