"""Fit many small images at once, one GPU program an image; `kernels.fit.torch` is the reference."""
