"""Registry of the nets that forecast frames."""

from torch import nn

from wavefold.core.registry import Table
from wavefold.models.blend import Blend
from wavefold.models.conv_lstm import ConvLSTMNet
from wavefold.models.refine import Refine
from wavefold.models.roll_out import RollOut
from wavefold.models.simvp import SimVP

FORECASTERS: Table[type[nn.Module]] = Table(
    "forecasters",
    {
        "blend": Blend,
        "conv_lstm": ConvLSTMNet,
        "refine": Refine,
        "roll_out": RollOut,
        "simvp": SimVP,
    },
)
