"""A plain CycleGAN step as a reference: fp32, eager, contiguous, InstanceNorm2d, Adam with default settings.

It is written like the well-known public implementations and shares no code with the package, so
that it also shows whether the package computes the same losses and gradients.
"""

from __future__ import annotations

import torch
from torch import nn


def resnet_generator(filters: int = 64, blocks: int = 9) -> nn.Sequential:
    f = filters

    def conv_norm_relu(conv: nn.Module, channels: int) -> list[nn.Module]:
        return [conv, nn.InstanceNorm2d(channels), nn.ReLU(True)]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), *conv_norm_relu(nn.Conv2d(1, f, 7), f)]
    layers += conv_norm_relu(nn.Conv2d(f, 2 * f, 3, stride=2, padding=1), 2 * f)
    layers += conv_norm_relu(nn.Conv2d(2 * f, 4 * f, 3, stride=2, padding=1), 4 * f)
    layers += [Residual(4 * f) for _ in range(blocks)]
    up = {"stride": 2, "padding": 1, "output_padding": 1}
    layers += conv_norm_relu(nn.ConvTranspose2d(4 * f, 2 * f, 3, **up), 2 * f)
    layers += conv_norm_relu(nn.ConvTranspose2d(2 * f, f, 3, **up), f)
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(f, 1, 7), nn.Tanh())


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


def patch_discriminator(filters: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, filters, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
    for width, stride in ((filters, 2), (2 * filters, 2), (4 * filters, 1)):
        layers += [
            nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1),
            nn.InstanceNorm2d(2 * width),
            nn.LeakyReLU(0.2, True),
        ]
    return nn.Sequential(*layers, nn.Conv2d(8 * filters, 1, 4, padding=1))


class ReferenceStep:
    """Generators, then discriminators: least squares, cycle weight 10, identity weight 5, no pool."""

    def __init__(self, filters: int = 64, blocks: int = 9, seed: int = 0, device: torch.device | str = "cpu") -> None:
        torch.manual_seed(seed)
        self.G_AB, self.G_BA = resnet_generator(filters, blocks), resnet_generator(filters, blocks)
        self.D_A, self.D_B = patch_discriminator(filters), patch_discriminator(filters)
        for network in (self.G_AB, self.G_BA, self.D_A, self.D_B):
            for name, parameter in network.named_parameters():
                nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, 0.0, 0.02)
            network.to(device)
        self.optimizer_G = torch.optim.Adam([*self.G_AB.parameters(), *self.G_BA.parameters()], 2e-4, (0.5, 0.999))
        self.optimizer_D = torch.optim.Adam([*self.D_A.parameters(), *self.D_B.parameters()], 2e-4, (0.5, 0.999))

    def __call__(self, real_A: torch.Tensor, real_B: torch.Tensor) -> dict[str, torch.Tensor]:
        mse, l1 = nn.MSELoss(), nn.L1Loss()
        for parameter in [*self.D_A.parameters(), *self.D_B.parameters()]:
            parameter.requires_grad = False
        self.optimizer_G.zero_grad()
        fake_B, fake_A = self.G_AB(real_A), self.G_BA(real_B)
        rec_A, rec_B = self.G_BA(fake_B), self.G_AB(fake_A)
        logits_B, logits_A = self.D_B(fake_B), self.D_A(fake_A)
        adversarial = mse(logits_B, torch.ones_like(logits_B)) + mse(logits_A, torch.ones_like(logits_A))
        cycle = l1(rec_A, real_A) + l1(rec_B, real_B)
        identity = l1(self.G_BA(real_A), real_A) + l1(self.G_AB(real_B), real_B)
        generators = adversarial + 10 * cycle + 5 * identity
        generators.backward()
        self.optimizer_G.step()
        for parameter in [*self.D_A.parameters(), *self.D_B.parameters()]:
            parameter.requires_grad = True
        self.optimizer_D.zero_grad()
        losses = {"generators": generators.detach()}
        for name, D, real, fake in (("A", self.D_A, real_A, fake_A), ("B", self.D_B, real_B, fake_B)):
            logits_real, logits_fake = D(real), D(fake.detach())
            loss = mse(logits_real, torch.ones_like(logits_real)) + mse(logits_fake, torch.zeros_like(logits_fake))
            (0.5 * loss).backward()
            losses[f"discriminator_{name}"] = 0.5 * loss.detach()
        self.optimizer_D.step()
        return losses


def copy_weights(reference: ReferenceStep, networks: nn.Module) -> None:
    """Give the package's networks, whose kernels come in the same order, the reference's weights."""
    for name in ("G_AB", "G_BA", "D_A", "D_B"):
        theirs = [p for p in getattr(reference, name).parameters() if p.dim() == 4]
        ours = [p for p in getattr(networks, name).parameters() if p.dim() == 4]
        with torch.no_grad():
            for mine, other in zip(ours, theirs, strict=True):
                mine.copy_(other)
