"""Data preparation: scaling, balancing, augmentation and mixing, with one table for each."""

from collections.abc import Callable

from wavefold.core.registry import Table
from wavefold.transforms.augment import Augmentation, Gain, Noise, Shift, Stretch, Wander
from wavefold.transforms.balance import Balancer, GanBalance, Repeat, Smote
from wavefold.transforms.mixup import Mixer, Mixup, PairMixer
from wavefold.transforms.scale import Scale, Standardise, Transform

TRANSFORMS: Table[type[Transform]] = Table("transforms", {"scale": Scale, "standardise": Standardise})
AUGMENTATIONS: Table[type[Augmentation]] = Table(
    "augmentations", {"noise": Noise, "shift": Shift, "gain": Gain, "stretch": Stretch, "wander": Wander}
)
MIXERS: Table[Callable[..., Mixer | PairMixer]] = Table("mixers", {"mixup": Mixup})
BALANCERS: Table[type[Balancer]] = Table("balancers", {"smote": Smote, "gan": GanBalance, "repeat": Repeat})

__all__ = [
    "AUGMENTATIONS",
    "BALANCERS",
    "MIXERS",
    "TRANSFORMS",
    "Augmentation",
    "Balancer",
    "Gain",
    "GanBalance",
    "Mixer",
    "Mixup",
    "Noise",
    "PairMixer",
    "Repeat",
    "Scale",
    "Shift",
    "Smote",
    "Standardise",
    "Stretch",
    "Transform",
    "Wander",
]
