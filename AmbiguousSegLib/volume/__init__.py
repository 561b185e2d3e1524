"""What a volume is: its grid, its files, its masks, and the way to a model's slices and back."""
