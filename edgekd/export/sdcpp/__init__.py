"""stable-diffusion.cpp: a pipeline as one file in the original layout."""
