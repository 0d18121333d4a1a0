"""Gives the batch normalisations of a network back what an exported file has lost: there they are folded away."""

import torch
from torch import nn


def all_of(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


@torch.no_grad()
def silence(network: nn.Module):
    """Lets each normalisation do nothing but add its offset."""
    for module in all_of(network):
        module.weight.fill_(1)
        module.running_mean.zero_()
        module.running_var.fill_(1 - module.eps)


@torch.no_grad()
def restore(network: nn.Module, batches):
    """Gives each normalisation the mean and deviation of what it sees, and the scale and offset that undo them."""
    sums: dict[nn.Module, list] = {}

    def look(module, inputs):
        places = [axis for axis in range(inputs[0].ndim) if axis != 1]
        seen = inputs[0].double()
        sums.setdefault(module, []).append((seen.mean(places), seen.square().mean(places)))

    hooks = [module.register_forward_pre_hook(look) for module in all_of(network)]
    for batch in batches:
        network(batch)
    for hook in hooks:
        hook.remove()
    for module, seen in sums.items():
        means, squares = (torch.stack(part).mean(0) for part in zip(*seen))
        module.running_mean.copy_(means)
        module.running_var.copy_(squares - means.square())
        module.weight.copy_((module.running_var + module.eps).sqrt())
        module.bias.add_(module.running_mean)
