"""Distributions over latents, and likelihoods of observations."""
