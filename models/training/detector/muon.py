"""Muon: momentum whose steps are made orthogonal, for the weights of convolutions; AdamW for all other parameters.

*Source*: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with its Newton-Schulz
coefficients. A convolution's weight is taken as a matrix of one row an output channel.
"""

import torch

MOMENTUM, DECAY = 0.95, 0.01
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrix):
    """A matrix with the same row and column spaces and singular values near 1."""
    a, b, c = COEFFICIENTS
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
                # Wide and tall layers are to change their outputs by as much.
                scale = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * DECAY)
                parameter.add_(orthogonal(ahead).reshape(parameter.shape), alpha=-group["lr"] * scale)
