"""Gaussian diffusion: schedules, equations, samplers, step grids, and noise that is addressed."""
