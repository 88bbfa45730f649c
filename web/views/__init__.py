"""Read models, folded from topics, pure and bounded; ``models.Views`` holds them all."""
