"""Checkpoints of Stable Diffusion in one file, as its authors and web UIs write them."""
