"""Training: recipes, augmentation, checkpoints, and the loop that trains all budgets of a network together."""
