"""Every processor-specific kernel equals torch's own operation, with its gradient."""
import pytest
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from study.model import kernels
from study.model.kernels import ChunkedAttention, linear, summed_cross_entropy


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_chunked_attention_equals_torchs(monkeypatch, causal, padded):
    monkeypatch.setattr(kernels, "CACHED", 2 * 3 * 7 * 7)       # 5 rows make two chunks and a smaller one
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(5, 7, 3, 3, 4, generator=generator, requires_grad=True)
    mask = (torch.arange(7) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    if causal:
        earlier = torch.ones(7, 7, dtype=torch.bool).tril()
        mask = earlier if mask is None else mask & earlier
    expected = scaled_dot_product_attention(*(part.transpose(1, 2) for part in qkv.unbind(2)), mask).transpose(1, 2)
    result = ChunkedAttention.apply(qkv, mask, 0.0)
    torch.testing.assert_close(result, expected)
    weight = torch.randn(expected.shape, generator=generator)
    torch.testing.assert_close(torch.autograd.grad((result * weight).sum(), qkv),
                               torch.autograd.grad((expected * weight).sum(), qkv))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_is_the_same_with_chunks_as_without(causal, padded):
    """In bfloat16 on a processor, attention is computed in chunks; in float32, by torch."""
    qkv = torch.randn(5, 7, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    expected = kernels.attention(qkv.bfloat16().float(), mask, 0.0, causal)
    result = kernels.attention(qkv.bfloat16(), mask, 0.0, causal)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)


def test_chunked_attention_drops_the_probabilities_that_torch_drops():
    qkv = torch.randn(5, 7, 3, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    torch.manual_seed(1)
    expected = torch.dropout((query * 4 ** -0.5 @ key.mT).softmax(-1), 0.4, True) @ value
    torch.manual_seed(1)
    result = ChunkedAttention.apply(qkv, None, 0.4)
    torch.testing.assert_close(result, expected.transpose(1, 2))
    torch.testing.assert_close(torch.autograd.grad(result.square().sum(), qkv),
                               torch.autograd.grad(expected.square().sum(), qkv))


def test_gradients_of_attention_in_bfloat16_are_more_exact_than_with_probabilities_in_bfloat16():
    generator = torch.Generator().manual_seed(0)
    shape = (16, 2, 32, 32)
    parts = [torch.randn(shape, generator=generator).bfloat16() for _ in range(4)]

    def gradients(attention, dtype):
        query, key, value = (part.to(dtype).requires_grad_() for part in parts[:3])
        attention(query, key, value).backward(parts[3].to(dtype))
        return torch.stack([query.grad, key.grad]).double()

    def plain(query, key, value):
        return ((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)).softmax(-1) @ value

    def chunked(*qkv):
        return ChunkedAttention.apply(torch.stack(qkv, 2).transpose(1, 3), None, 0.0).transpose(1, 2)

    exact = gradients(plain, torch.float64)
    error, error_of_plain = ((gradients(attention, torch.bfloat16) - exact).abs().mean()
                             for attention in (chunked, plain))
    assert error < 0.9 * error_of_plain


@pytest.mark.parametrize("shape", [(33, 24), (3, 11, 24)])
def test_linear_in_bfloat16_equals_torchs(monkeypatch, shape):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(size, generator=generator).requires_grad_() for size in (shape, (40, 24), (40,))]
    weight = torch.randn(*shape[:-1], 40, generator=generator)

    def result_and_gradients():
        with torch.autocast("cpu", torch.bfloat16):
            y = linear(*values)
        assert y.dtype == torch.bfloat16
        return y.detach(), *torch.autograd.grad((y * weight).sum(), values)

    fused = result_and_gradients()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for result, expected in zip(fused, result_and_gradients(), strict=True):
        assert result.dtype == expected.dtype
        torch.testing.assert_close(result, expected, rtol=2 ** -7, atol=2 ** -12)      # one rounding on some processors
    assert linear(*values).dtype == torch.float32


def test_in_place_cross_entropy_equals_torchs(monkeypatch):
    monkeypatch.setattr(kernels, "CACHED", 20 * 50)             # 64 rows make three chunks and a smaller one
    logits = (torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 8).requires_grad_()
    targets = torch.arange(64) % 50
    expected = cross_entropy(logits, targets, reduction="sum")
    gradient, = torch.autograd.grad(expected * 0.3, logits)
    result = summed_cross_entropy(logits * 1, targets)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result * 0.3, logits)[0], gradient)
    more = torch.cat([logits, torch.ones(7, 50)])               # seven rows without a target
    torch.testing.assert_close(summed_cross_entropy(more * 1, targets), expected)
    torch.testing.assert_close(torch.autograd.grad(summed_cross_entropy(more * 1, targets) * 0.3, logits)[0], gradient)
    torch.testing.assert_close(summed_cross_entropy(more.detach(), targets), expected.detach())
