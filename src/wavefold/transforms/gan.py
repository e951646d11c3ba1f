"""A small GAN that learns the signals of one class and generates more of them.

From section 3.4 of the heartbeat source: a generator of widths 64-128-256-512-1024-T, a discriminator T-512-256-1, Adam
with 5e-4 for both, 200 epochs in batches of 32. Differences: signals are mapped to tanh's range for training and back
afterwards (the source's tanh generates values below the 0 of its data); any number of channels, as one flat vector; the
sigmoid is part of the loss, where it cannot overflow; a last batch of one sample is skipped (the source's
`except: continue`) because batch norm needs two.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from wavefold.core.device import best_device
from wavefold.core.progress import Progress
from wavefold.data.dataset import Floats

_NOISE = 64  # width of the generator's input noise
_BATCH = 32
_NORM_EPS = 0.8  # the source's BatchNorm1d(n, 0.8): perhaps meant as momentum, but torch's second argument is eps


class Generator(nn.Module):
    """Turns noise (N, 64) into flat signals (N, width) in -1 to 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [128, 256, 512, 1024]
        layers: list[nn.Module] = [nn.Linear(_NOISE, widths[0]), nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after, eps=_NORM_EPS), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], width), nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        """noise: (N, 64); result: (N, width)."""
        signals: Tensor = self.layers(noise)
        return signals


class Discriminator(nn.Module):
    """Separates real flat signals (N, width) from generated ones: (N, 1) logits, positive for real."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )

    def forward(self, signals: Tensor) -> Tensor:
        """signals: (N, width)."""
        logits: Tensor = self.layers(signals)
        return logits


def imitate(
    signals: Floats, count: int, *, seed: int, epochs: int = 200, steps: int | None = None, what: str = "gan"
) -> Floats:
    """Generate `count` signals like the given ones, (sample, channel, position), two or more, within their range of values.

    steps: maximum number of batches over all epochs. what: label of the progress display.
    """
    low, high = float(signals.min()), float(signals.max())
    span = high - low or 1.0
    flat = torch.from_numpy(np.ascontiguousarray(signals, dtype=np.float32)).reshape(len(signals), -1)
    draws = torch.Generator().manual_seed(seed)  # the caller's random state is left unchanged, here and below
    batches = -(-len(flat) // _BATCH) * epochs
    with Progress(what, batches if steps is None else min(steps, batches), "batches") as progress:
        generator = _train((flat - low) / span * 2 - 1, epochs, steps, draws, progress)
    made = _sample(generator, count, draws)
    made = ((made + 1) / 2 * span + low).clamp(low, high)
    result: Floats = made.reshape(count, *signals.shape[1:]).numpy()
    return result


def _train(real: Tensor, epochs: int, steps: int | None, draws: torch.Generator, progress: Progress) -> Generator:
    """A generator trained on real flat signals, (sample, width) in -1 to 1."""
    device = best_device()
    real = real.to(device)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draws.initial_seed())  # torch.manual_seed would reseed the GPU as well
        generator, discriminator = Generator(real.shape[1]), Discriminator(real.shape[1])
    generator.to(device), discriminator.to(device)
    train_generator, train_discriminator = _adam(generator), _adam(discriminator)
    for done, index in enumerate(_batches(len(real), epochs, steps, draws)):
        _notify(generator, discriminator, train_discriminator, real[index.to(device)], _noise(len(index), draws, device))
        _make(generator, discriminator, train_generator, _noise(len(index), draws, device))
        progress.update(done + 1)
    return generator


def _notify(
    generator: Generator, discriminator: Discriminator, learn: torch.optim.Optimizer, real: Tensor, noise: Tensor
) -> None:
    """Train the discriminator for one step: target 1 for real, 0 for generated. real: (N, width); noise: (N, 64)."""
    with torch.no_grad():
        made = generator(noise)
    told_real, told_made = discriminator(real), discriminator(made)
    loss = binary_cross_entropy_with_logits(told_real, torch.ones_like(told_real))
    loss = loss + binary_cross_entropy_with_logits(told_made, torch.zeros_like(told_made))
    learn.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    learn.step()


def _make(generator: Generator, discriminator: Discriminator, learn: torch.optim.Optimizer, noise: Tensor) -> None:
    """Train the generator for one step, towards samples that the discriminator classifies as real. noise: (N, 64)."""
    discriminator.requires_grad_(False)  # its weights need no gradient here, which saves a third of the step
    fields = discriminator(generator(noise))
    loss = binary_cross_entropy_with_logits(fields, torch.ones_like(fields))
    learn.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    learn.step()
    discriminator.requires_grad_(True)


def _sample(generator: Generator, count: int, draws: torch.Generator) -> Tensor:
    """Generate flat signals, 1024 at a time. result: (count, width), on the CPU."""
    generator.eval()  # running statistics: a sample does not depend on the others in its batch
    device = next(generator.parameters()).device
    with torch.no_grad():
        return torch.cat([generator(z.to(device)).cpu() for z in torch.split(_noise(count, draws), 1024)])


def _batches(samples: int, epochs: int, steps: int | None, draws: torch.Generator) -> Iterator[Tensor]:
    done = 0
    for _ in range(epochs):
        for index in torch.split(torch.randperm(samples, generator=draws), _BATCH):
            if done == steps:
                return
            if len(index) > 1:
                done += 1
                yield index


def _noise(count: int, draws: torch.Generator, device: torch.device | None = None) -> Tensor:
    return torch.randn(count, _NOISE, generator=draws).to(device)


def _adam(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=5e-4, betas=(0.9, 0.99), fused=True)  # 10 ms per batch instead of 16
