"""ConvLSTM: an LSTM whose matrix products are convolutions, and the frames system's two nets built from it.

Source: Shi et al. 2015 (the cell); the frames write-up and the Keras example it follows (the nets): ConvLSTM layers with
batch norm, then a Conv3D over all frames (20 to 20) or a Conv2D on the last state (20 to 1).
Differences: any number of later frames; gates are plain sigmoids (as in Keras 3; Keras 2 used hard sigmoids); batch norm's
momentum is 0.1 per step instead of Keras' 0.01, so that its running statistics settle after tens of steps, not hundreds.

Legend: N samples, C channels, T frames, P past frames, A ahead frames, K targets, H hidden channels, R rows, W columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from wavefold.core.errors import UserError
from wavefold.models.first_forecast import (
    Activation,
    FirstForecast,
    Start,
    answer,
    need_known,
    need_odd,
    need_one_of,
    need_targets,
    quiet,
    time_first,
    time_inside,
)
from wavefold.models.layers import need_least

CellState = tuple[Tensor, Tensor]  # hidden and cell, each (N, H, R, W)


class ConvLSTMCell(nn.Module):
    """One step of a ConvLSTM: maps a frame (N, C, R, W) and a state to the next state.

    One convolution of the input and one of the hidden state compute all four gates, in Keras' order input, forget, cell,
    output: `read.weight` is Keras' kernel and `recur.weight` its recurrent kernel, as (gate x H, input, row, column).
    Peepholes have one weight per channel and gate, shared by all cells of the frame, so that any frame size works.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, peephole: bool = False) -> None:
        super().__init__()
        need_odd("conv_lstm", kernel)
        need_least("conv_lstm", 1, channels=channels, hidden=hidden)
        self.hidden = hidden
        self.read = nn.Conv2d(channels, 4 * hidden, kernel, padding=kernel // 2)
        self.recur = nn.Conv2d(hidden, 4 * hidden, kernel, padding=kernel // 2, bias=False)
        self.peep = nn.Parameter(torch.zeros(3, hidden, 1, 1)) if peephole else None  # input, forget, output
        self._begin_as_keras()

    def forward(self, frame: Tensor, state: CellState | None = None) -> CellState:
        return self.step(self.read(frame), self.empty(frame) if state is None else state)

    def step(self, read: Tensor, state: CellState) -> CellState:
        """The next state from a frame's input convolution (N, 4H, R, W), which can be computed for many frames at once."""
        hidden, cell = state
        gates = read + self.recur(hidden)
        if self.peep is not None:
            return self._peeped(gates, state)
        both, new, leave = gates.split([2 * self.hidden, self.hidden, self.hidden], 1)  # one split has a cheaper gradient
        enter, forget = both.sigmoid().chunk(2, 1)
        cell = torch.addcmul(forget * cell, enter, new.tanh()).to(cell.dtype)
        return (leave.sigmoid() * cell.tanh()).to(hidden.dtype), cell

    def _peeped(self, gates: Tensor, state: CellState) -> CellState:
        assert self.peep is not None
        hidden, cell = state
        enter, forget, new, leave = gates.chunk(4, 1)
        enter, forget = (enter + self.peep[0] * cell).sigmoid(), (forget + self.peep[1] * cell).sigmoid()
        cell = (forget * cell + enter * new.tanh()).to(cell.dtype)
        return ((leave + self.peep[2] * cell).sigmoid() * cell.tanh()).to(hidden.dtype), cell

    def empty(self, frame: Tensor) -> CellState:
        """A zero state for frames (N, ., R, W), with their dtype and device; also correct under autocast."""
        zeros = frame.new_zeros(frame.shape[0], self.hidden, *frame.shape[2:])
        zeros = zeros.contiguous(memory_format=torch.channels_last)
        return zeros, zeros

    def _begin_as_keras(self) -> None:
        nn.init.xavier_uniform_(self.read.weight)
        nn.init.orthogonal_(self.recur.weight)
        assert self.read.bias is not None
        nn.init.zeros_(self.read.bias)
        nn.init.ones_(self.read.bias[self.hidden : 2 * self.hidden])  # Keras' unit_forget_bias: initially the cell remembers


class ConvLSTMLayer(nn.Module):
    """Runs a cell along a sequence (N, C, T, R, W); returns the hidden states (N, H, T, R, W) and the last state.

    Given the state after earlier frames, it continues as if it had read all frames in one call.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 3, peephole: bool = False) -> None:
        super().__init__()
        self.cell = ConvLSTMCell(channels, hidden, kernel, peephole)

    def forward(self, sequence: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        frames = time_first(sequence)  # (T N, C, R, W)
        count = sequence.shape[2]
        state = self.cell.empty(sequence[:, :, 0]) if state is None else state
        hidden = []
        for read in self.cell.read(frames).split([sequence.shape[0]] * count):  # (N, 4H, R, W) per frame
            state = self.cell.step(read, state)
            hidden.append(state[0])
        return time_inside(torch.cat(hidden), count), state


class ConvLSTMNet(nn.Module):
    """The frames system's net: `depth` ConvLSTM layers of `hidden` filters, batch norm after each, and one of two heads.

    head "sequence" (ahead must equal past): a 3 x 3 x 3 convolution over all hidden states; the source's 20 to 20 net with
    40 filters. Later frame t depends only on past frames 0 to t + 1 (the kernel's neighbours in time), so the first later
    frames never use the last past frames; roll_out and simvp use all of them. Later frames are never read.
    head "last": a 3 x 3 convolution of the last hidden state, which has seen all past frames, predicts all later frames at
    once; the source's 20 to 1 net with 30 filters. head "auto" means "sequence" if ahead equals past, else "last".
    """

    def __init__(
        self,
        channels: int,
        targets: int,
        past: int,
        ahead: int,
        *,
        hidden: int = 40,
        depth: int = 3,
        kernel: int = 3,
        peephole: bool = False,
        head: Literal["auto", "sequence", "last"] = "auto",
        activation: Activation = "sigmoid",
        start: Start = "none",
    ) -> None:
        super().__init__()
        need_least("conv_lstm", 1, past=past, ahead=ahead, depth=depth)
        need_targets("conv_lstm", channels, targets)
        need_known("conv_lstm", start, activation)
        self.targets, self.ahead, self.start, self.activation = targets, ahead, start, activation
        self.sequence = _sequence_head(head, past, ahead)
        widths = [channels] + [hidden] * depth
        self.layers = nn.ModuleList(ConvLSTMLayer(width, hidden, kernel, peephole) for width in widths[:-1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(hidden, eps=1e-3) for _ in self.layers)  # Keras' eps
        self.head: nn.Conv2d | nn.Conv3d
        if self.sequence:
            self.head = nn.Conv3d(hidden, targets, 3, padding=1)
        else:
            self.head = nn.Conv2d(hidden, targets * ahead, 3, padding=1)
        quiet(self.head, start)
        self.first = FirstForecast(start, targets, ahead)

    def forward(self, past: Tensor) -> Tensor:
        x, last = past, len(self.layers) - 1
        for place, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x, _ = layer(x)  # (N, H, P, R, W)
            if place == last and not self.sequence:
                x = x[:, :, -1:]
            x = time_inside(norm(time_first(x)), x.shape[2])  # statistics over samples, frames, rows and columns, as in Keras
        change = self.head(x) if self.sequence else self.head(x[:, :, 0]).unflatten(1, (self.targets, self.ahead))
        return answer(change, self.first(past), self.activation)


def _sequence_head(head: str, past: int, ahead: int) -> bool:
    need_one_of("conv_lstm", "head", head, ("auto", "sequence", "last"))
    if head == "sequence" and past != ahead:
        raise UserError(
            f"conv_lstm: head 'sequence' forecasts as many frames as it reads, but past is {past} and ahead is {ahead}; "
            "choose head 'last' or 'auto', set ahead equal to past, or use the model roll_out or simvp"
        )
    return head == "sequence" or (head == "auto" and past == ahead)
