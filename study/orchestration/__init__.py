"""Running studies: DVC, cells in parallel, Ray, preloading, code identity, plan, verify. Not part of the science."""
