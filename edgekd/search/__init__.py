"""Students for one device: a space, their measured cost, their expected quality, a study."""
