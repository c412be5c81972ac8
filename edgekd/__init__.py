"""edgekd: distil Stable Diffusion teachers into small students that run on a device.

Importing this package loads neither torch nor any other heavy library; each
verb of the command line imports what it needs.
"""

__version__ = "0.2.0"
