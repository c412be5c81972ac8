"""A student's inner features against its teacher's, from the same noisy latents and captions."""
