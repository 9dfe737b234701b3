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
    """In bfloat16 on a processor, attention is computed in chunks; in float32 without dropout, by torch."""
    qkv = torch.randn(5, 7, 3, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 5, 7, 1, 6])[:, None])[:, None, None, :] if padded else None
    expected = kernels.attention(qkv.bfloat16().float(), mask, 0.0, causal)
    result = kernels.attention(qkv.bfloat16(), mask, 0.0, causal)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, rtol=0.03, atol=0.03)


def test_chunked_attention_drops_probabilities():
    qkv = torch.randn(5, 7, 3, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
    probabilities = (query * 4 ** -0.5 @ key.mT).softmax(-1)                     # (5, 3, 7, 7)
    torch.manual_seed(1)
    mask = kernels.dropout_mask(probabilities.flatten(0, 1), 0.4)                # as one chunk draws it
    expected = probabilities * mask.unflatten(0, (5, 3)) @ value
    torch.manual_seed(1)
    result = kernels.attention(qkv, None, 0.4, False)
    torch.testing.assert_close(result, expected.transpose(1, 2))
    torch.testing.assert_close(torch.autograd.grad(result.square().sum(), qkv),
                               torch.autograd.grad(expected.square().sum(), qkv))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_masks_have_torchs_values_and_the_given_share_of_zeros(dtype, probability):
    x = torch.ones(1001, 501, dtype=dtype)          # a size that four does not divide
    torch.manual_seed(0)
    mask = kernels.dropout_mask(x, probability)
    assert mask.dtype == dtype
    assert mask.shape == x.shape
    torch.testing.assert_close(mask.unique(), torch.dropout(x, probability, True).unique(), rtol=1e-4, atol=0)
    zeros = mask == 0
    assert zeros.float().mean() == pytest.approx(probability, abs=5 * (probability / x.numel()) ** 0.5)
    for other in (zeros.roll(1, 0), zeros.roll(1, 1), kernels.dropout_mask(x, probability) == 0):
        both = (zeros & other).float().mean()       # independent of its neighbours and of the next mask
        assert both == pytest.approx(probability ** 2, abs=5 * probability / x.numel() ** 0.5)


def test_a_dropout_mask_is_a_function_of_torchs_seed():
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(kernels.dropout_mask(torch.ones(64), 0.5))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_dropout_multiplies_values_and_gradients_by_one_mask():
    module = kernels.Dropout(0.3)
    x = torch.randn(50, 20, requires_grad=True)
    torch.manual_seed(0)
    mask = kernels.dropout_mask(x, 0.3)
    torch.manual_seed(0)
    result = module(x)
    torch.testing.assert_close(result, x * mask)
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], mask)
    assert module.eval()(x) is x
    assert kernels.Dropout(0.0)(x) is x


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
