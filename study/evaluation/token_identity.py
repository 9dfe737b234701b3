"""Token identity: how well a linear map reads which token stands at a position from the encoder's state there.

The rows are those of the test set without any mask, as a task that uses the encoder sees text. So the probe asks what
the encoder keeps of tokens that it sees. The states of the embeddings and of every layer are probed, beside those of
the encoder as initialised.

The map is a ridge regression from the states to the encoder's own input embeddings, as unit vectors around their mean.
The token read from a state is the one, of the whole vocabulary, whose embedding has the largest cosine with the
prediction (Brunner et al. 2020, "On identifiability in transformers"). It has a closed form, takes a second per layer,
and finds tokens that it was not trained on. A classifier of the frequent tokens cannot tell arms apart: in a trained
encoder of 2 layers x 128, linear discriminant analysis of the 763 commonest tokens of WikiText-2 was right at 99.9 % of
the positions in every layer, where the map here reads 95 % from the last one. Positions follow from the text alone, so
arms are compared on the same tokens. Each encoder is held against its own embeddings, so look at its share at the
embeddings, and before training, as well.

Shapes: N rows, T positions of a row, P positions with an ordinary token, H hidden size, V vocabulary.
"""
from __future__ import annotations

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from study.data.batches import blocks
from study.data.evaluation_sets import EvaluationSet
from study.data.tokenizer import TokenizerInfo
from study.objectives.pretraining_model import PretrainingModel

RIDGE = 0.01                                # penalty per training position; states are standardised
BLOCK = 1024                                # positions that are compared with the vocabulary at once, to bound memory


def token_identity(encoders: dict[str, PretrainingModel], heldout: EvaluationSet, tokenizer: TokenizerInfo,
                   positions: int, batch_size: int, threads: int = 1) -> tuple[dict, dict[str, np.ndarray]]:
    """Returns the section of evaluation.json on token identity, and the number of right answers per row.

    encoders: by name, such as `trained`. positions: about how many the map is fitted to, in the first rows; as many
    rows after them are the test. Fewer if there are not so many rows. threads: of the linear algebra. The section has
    the numbers of tokens and, per encoder, the share of test tokens that is read from each layer, the embeddings first.
    """
    import sklearn.linear_model  # noqa: F401  loaded now: the limit on threads holds for libraries that are loaded

    rows = max(1, min(-(-positions // (heldout.ids.shape[1] - 2)), len(heldout.ids) // 2))
    parts = heldout.ids[:rows], heldout.ids[rows:2 * rows]                                  # (N, T) each
    wanted = [tokenizer.is_ordinary[ids] for ids in parts]
    train, test = (np.searchsorted(tokenizer.ordinary, ids[part])                           # (P,), rows of `embedding`
                   for ids, part in zip(parts, wanted, strict=True))
    row = np.nonzero(wanted[1])[0]
    arrays = {"token_identity/tokens": np.bincount(row, minlength=len(parts[1])).astype(np.int32)}
    if heldout.documents is not None:
        arrays["token_identity/documents"] = heldout.documents[rows:2 * rows]
    shares = {}
    for name, model in encoders.items():
        states = [states_at(model, ids, part, batch_size) for ids, part in zip(parts, wanted, strict=True)]
        embedding = model.encoder.token.weight.detach().float().cpu().numpy()[tokenizer.ordinary]
        with threadpool_limits(threads):
            right = [nearest(*layer, embedding[train], embedding) == test for layer in zip(*states, strict=True)]
        shares[name] = [float(layer.mean()) for layer in right]
        arrays |= {f"token_identity/{name}/layer-{layer}": np.bincount(row, weights=is_right, minlength=len(
            parts[1])).astype(np.int32) for layer, is_right in enumerate(right)}
    return {"train_tokens": len(train), "tokens": len(test), "layers": shares}, arrays


@torch.inference_mode()
def states_at(model: PretrainingModel, ids: np.ndarray, wanted: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Returns the states (P, H) float32 of the embeddings and of every layer at the wanted positions of unpadded rows,
    row-major. ids, wanted (N, T)."""
    parts = []
    for rows in blocks(len(ids), batch_size):
        input_ids, at = model.as_tensor(ids[rows]), model.as_tensor(wanted[rows])
        states = model.encoder(input_ids, torch.zeros_like(input_ids), all_states=True)     # (B, T, H) each
        parts.append([layer[at].float().cpu().numpy() for layer in states])
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def nearest(train: np.ndarray, test: np.ndarray, target: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Returns, for each test state, the row of `candidates` that is nearest by cosine to what a ridge regression from
    `train` to `target` predicts: (P,) int.

    train, test (P, H): states. target (P, H): embeddings of the tokens of `train`. candidates (V, H): embeddings. All
    embeddings are taken as unit vectors around the mean of the candidates. -1 if a number is not finite, as in a
    diverged run.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler, normalize

    if not all(np.isfinite(part).all() for part in (train, test, candidates)):
        return np.full(len(test), -1)
    mean = candidates.mean(0)
    target, candidates = normalize(target - mean), normalize(candidates - mean)
    ridge = make_pipeline(StandardScaler(), Ridge(RIDGE * len(train), solver="cholesky")).fit(train, target)
    predicted = ridge.predict(test)
    return np.concatenate([(predicted[part] @ candidates.T).argmax(1) for part in blocks(len(test), BLOCK)])
