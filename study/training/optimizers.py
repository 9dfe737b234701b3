"""The optimisers of a run, and their state as tensors of a checkpoint."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from study.config.schema import Training

POSITIONS = ("encoder.position.", "encoder.relative.")     # names of parameters with their own learning rate


class Optimizers:
    """AdamW (Loshchilov and Hutter 2019), or Muon (Jordan et al. 2024) for the matrices of the layers and AdamW for the
    rest.

    Weight decay applies to matrices only, unless `decay_biases_and_norms` is set. Muon's updates are scaled to the size
    of AdamW's (Liu et al. 2025), so both use the same learning rate. Queries, keys and values are one matrix here.
    """

    def __init__(self, model: nn.Module, training: Training):
        self.model = model
        groups: dict[tuple, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            is_matrix = parameter.ndim >= 2
            by_muon = training.optimizer == "muon" and is_matrix and name.startswith("encoder.layers.")
            scale = training.position_learning_rate if name.startswith(POSITIONS) else 1.0
            groups.setdefault((by_muon, is_matrix, scale), []).append(parameter)
        decay = {True: training.weight_decay, False: training.weight_decay * training.decay_biases_and_norms}
        adamw, muon = ([{"params": parameters, "weight_decay": decay[is_matrix], "scale": scale}
                        for (by_muon, is_matrix, scale), parameters in groups.items() if by_muon == wanted]
                       for wanted in (False, True))
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(
            adamw, lr=training.learning_rate, betas=(training.adam_beta1, training.adam_beta2),
            eps=training.adam_epsilon, fused=True)]
        if muon:
            self.optimizers.append(torch.optim.Muon(muon, lr=training.learning_rate, adjust_lr_fn="match_rms_adamw"))

    def step(self, rate: float) -> None:
        """Updates the weights from their gradients at this learning rate."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state of every parameter that has been updated, as `<parameter>.<key>`."""
        return {f"{name}.{key}": value for name, parameter in self.model.named_parameters()
                for optimizer in self.optimizers for key, value in optimizer.state.get(parameter, {}).items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Sets the state to that of a checkpoint. tensors: as `tensors` returns them."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                prefix = f"{names[parameter]}."
                state = {key.removeprefix(prefix): tensor.to(parameter.device) for key, tensor in tensors.items()
                         if key.startswith(prefix)}
                if state:
                    optimizer.state[parameter] = state
