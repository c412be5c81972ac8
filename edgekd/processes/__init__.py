"""Other processes: one that is measured or may die, a pool of them, and what they may leave."""
