"""The recipe of Dive into Deep Learning's chapter on BERT, in plain Python and torch, as tests hold it against ours.

Tokens are strings and rows are lists, one at a time, in the order of the book's steps. Only the random numbers are
ours: the book shuffles and draws from one generator, and here every draw has coordinates, as in `study.randomness`.
"""
from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from study import randomness

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@dataclass
class Example:
    """One prepared row. shown: the tokens after masking. labels: the true words at the positions."""
    tokens: list[str]
    segments: list[int]
    is_next: bool
    shown: list[str]
    positions: list[int]
    labels: list[str]


def paragraphs_of(lines: list[str]) -> list[list[list[str]]]:
    """Lines with at least two pieces between periods, as lists of sentences of lower-case words."""
    kept = [line for line in lines if len(line.split(" . ")) >= 2]
    return [[sentence.split() for sentence in line.strip().lower().split(" . ")] for line in kept]


def vocabulary_of(paragraphs: list[list[list[str]]], least: int) -> list[str]:
    """The words that occur at least so often, after the special tokens; <unk> is the word of the text for [UNK]."""
    counts = Counter(word for paragraph in paragraphs for sentence in paragraph for word in sentence)
    return SPECIALS + sorted(word for word, count in counts.items() if count >= least and word != "<unk>")


class Draws:
    """The random choices of a seed."""

    def __init__(self, seed: int):
        self.seed = seed

    def uniform(self, stream: int, *coordinates: int) -> float:
        return float(randomness.uniforms(self.seed, stream, *coordinates))

    def choice(self, items: list, stream: int, *coordinates: int):
        return items[int(self.uniform(stream, *coordinates) * len(items))]

    def is_next(self, pair: int) -> bool:
        return self.uniform(randomness.PAIR, 0, pair) >= 0.5

    def sentence(self, paragraphs: list, pair: int) -> list[str]:
        return self.choice(self.choice(paragraphs, randomness.NEGATIVE, 0, pair, 0), randomness.NEGATIVE, 0, pair, 1)


def sentence_pairs(paragraphs: list, length: int, draws: Draws) -> list[tuple[list[str], list[int], bool]]:
    """Tokens, segments and whether the second sentence is the next one, of every pair that fits into a row."""
    rows, number = [], 0
    for paragraph in paragraphs:
        for first, second in zip(paragraph, paragraph[1:], strict=False):
            is_next = draws.is_next(number)
            if not is_next:
                second = draws.sentence(paragraphs, number)
            number += 1
            if len(first) + len(second) + 3 > length:
                continue
            tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
            rows.append((tokens, [0] * (len(first) + 2) + [1] * (len(second) + 1), is_next))
    return rows


def masked(tokens: list[str], row: int, vocabulary: list[str], draws: Draws) -> tuple[list[str], list[int]]:
    """The tokens as the encoder sees them, and the positions to predict, in order."""
    candidates = [place for place, token in enumerate(tokens) if token not in ("[CLS]", "[SEP]")]
    candidates.sort(key=lambda place: draws.uniform(randomness.SELECT, 0, row, place))      # the book's shuffle
    shown, positions = list(tokens), candidates[:max(1, round(len(tokens) * 0.15))]
    for place in positions:
        fate = draws.uniform(randomness.CORRUPT, 0, row, place)
        if fate < 0.8:
            shown[place] = "[MASK]"
        elif fate < 0.9:
            shown[place] = draws.choice(vocabulary, randomness.REPLACE, 0, row, place)
    return shown, sorted(positions)


def examples_of(lines: list[str], least: int, length: int, seed: int) -> tuple[list[str], list[Example]]:
    """The vocabulary and the prepared rows of a text."""
    paragraphs, draws = paragraphs_of(lines), Draws(seed)
    vocabulary, examples = vocabulary_of(paragraphs, least), []
    for row, (words, segments, is_next) in enumerate(sentence_pairs(paragraphs, length, draws)):
        tokens = [word if word in vocabulary else "[UNK]" for word in words]
        shown, positions = masked(tokens, row, vocabulary, draws)
        examples.append(Example(tokens, segments, is_next, shown, positions, [tokens[place] for place in positions]))
    return vocabulary, examples


class BookBlock(nn.Module):
    """One block of the encoder: attention and feed-forward, each added to its input and normalised afterwards."""

    def __init__(self, width: int, inner: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, valid):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.mT / key.shape[-1] ** 0.5
        hidden = torch.arange(x.shape[1])[None] >= valid[:, None]
        scores = scores.masked_fill(hidden[:, None, None], -1e6)
        x = self.norm1(x + self.output((scores.softmax(-1) @ value).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.down(torch.relu(self.up(x))))


class BookBert(nn.Module):
    """The book's model, without dropout."""

    def __init__(self, vocabulary: int, width: int, inner: int, heads: int, blocks: int, length: int):
        super().__init__()
        self.token, self.segment = nn.Embedding(vocabulary, width), nn.Embedding(2, width)
        self.position = nn.Parameter(torch.randn(1, length, width))
        self.blocks = nn.ModuleList(BookBlock(width, inner, heads) for _ in range(blocks))
        self.mlm = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width), nn.Linear(width, vocabulary))
        self.nsp = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))

    def encode(self, tokens, segments, valid):
        x = self.token(tokens) + self.segment(segments) + self.position[:, :tokens.shape[1]]
        for block in self.blocks:
            x = block(x, valid)
        return x

    def losses(self, tokens, segments, valid, positions, weights, labels, is_next):
        """The two losses: of padded lists of positions (B, P), where `weights` is 1 at true ones and 0 at padding."""
        x = self.encode(tokens, segments, valid)
        logits = self.mlm(x[torch.arange(len(x))[:, None], positions])                      # (B, P, V)
        each = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        mlm = (each * weights.flatten()).sum() / (weights.sum() + 1e-8)
        return mlm, nn.functional.cross_entropy(self.nsp(x[:, 0]), is_next)


def with_weights_of(ours: nn.Module, book: BookBert) -> BookBert:
    """The book's model with the weights of our PretrainingModel; its classes of NSP are in the other order."""
    state = ours.state_dict()
    new = {"token.weight": state["encoder.token.weight"], "segment.weight": state["encoder.segment.weight"],
           "position": state["encoder.position.weight"][None]}
    renamed = {"attention.output": "output", "attention_norm": "norm1", "feedforward_norm": "norm2", "up": "up",
               "down": "down"}
    for number in range(len(book.blocks)):
        for part in ("weight", "bias"):
            prefix = f"encoder.layers.{number}"
            projections = state[f"{prefix}.attention.qkv.{part}"].chunk(3)
            new |= {f"blocks.{number}.{name}.{part}": tensor
                    for name, tensor in zip(("query", "key", "value"), projections, strict=True)}
            new |= {f"blocks.{number}.{theirs}.{part}": state[f"{prefix}.{name}.{part}"]
                    for name, theirs in renamed.items()}
    for part in ("weight", "bias"):
        new |= {f"mlm.0.{part}": state[f"mlm_head.transform.{part}"], f"mlm.2.{part}": state[f"mlm_head.norm.{part}"],
                f"nsp.0.{part}": state[f"sentence_head.pooler.{part}"],
                f"nsp.2.{part}": state[f"sentence_head.classifier.{part}"].flip(0)}
    new |= {"mlm.3.weight": state["mlm_head.decoder.weight"], "mlm.3.bias": state["mlm_head.bias"]}
    book.load_state_dict(new)
    return book.eval()
