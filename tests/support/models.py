"""A small batch for tests of the model."""
import torch

V, T = 60, 32                               # vocabulary; positions


def batch(seed: int = 0):
    """Returns ids, token types and attention mask, each (3, T). Row 1 is padded from position 20."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, V, (3, T), generator=generator)
    types = (torch.arange(T) > 12).long().expand(3, T)
    mask = torch.ones(3, T, dtype=torch.bool)
    mask[1, 20:] = False
    return ids, types, mask
