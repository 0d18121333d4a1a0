"""How the student's weights are moved: Muon for what are matrices, AdamW for the rest.

Muon makes all directions of a matrix's step equally long, so that rare features are learnt as fast as common ones. It
needs fewer steps than AdamW alone, and steps are what two cores are short of. A convolution's weights are a matrix too:
a row for each output.
"""

import torch
from torch import nn

WEIGHT_DECAY = 0.02


def rows(weights: torch.Tensor) -> torch.Tensor:
    """A convolution's weights, or their gradient, as a matrix; a view where the channels lie last."""
    return weights.permute(0, 2, 3, 1).flatten(1) if weights.ndim == 4 else weights


class MatrixAwareOptimizer:
    """Both, behind the few methods of an optimizer that training needs."""

    def __init__(self, network: nn.Module, rate: float):
        weights = list(network.parameters())
        self.matrices = [weight for weight in weights if weight.ndim in (2, 4)]
        # Muon takes matrices only, so it is given these, which share their memory with the weights.
        self.views = [nn.Parameter(rows(weight.detach())) for weight in self.matrices]
        for weight, view in zip(self.matrices, self.views):
            assert weight.data_ptr() == view.data_ptr()
        # Steps as long as AdamW's, so that one rate fits both.
        self.muon = torch.optim.Muon(self.views, rate, WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        groups = [
            {"params": [weight for weight in weights if weight.ndim == 3], "weight_decay": WEIGHT_DECAY},
            {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98))

    def set_rate(self, rate: float):
        """Sets the learning rate of the steps to come."""
        for group in self.muon.param_groups + self.adam.param_groups:
            group["lr"] = rate

    def step(self):
        """Moves all weights by their gradients, and forgets those."""
        for weight, view in zip(self.matrices, self.views):
            view.grad, weight.grad = rows(weight.grad), None
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad()
        self.adam.zero_grad()

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, kept: dict):
        """Goes on from a checkpoint."""
        self.muon.load_state_dict(kept["muon"])
        self.adam.load_state_dict(kept["adam"])
