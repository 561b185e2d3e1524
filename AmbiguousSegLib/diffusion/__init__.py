"""The Gaussian diffusion process: schedule, losses, step grids, samplers, addressed noise."""
