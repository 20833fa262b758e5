"""How a program built on Hemi runs: its command line, and the foreground process that serves one configuration.

Only the core is imported here. Which components exist is the program's business: it names their modules
(`Program.components`), so that this package knows no protocol. Modules that a command line needs before anything is
patched (`program`, `options`, `main`) import the standard library and `hemi.errors` alone.
"""
