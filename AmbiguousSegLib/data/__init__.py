"""What models are trained and judged on: readers of data on disk, the phantom, splits, transforms."""
