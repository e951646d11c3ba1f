"""Data preparation: splits, scaling, cropping, balancing, augmentation and mixing, with one registry for each."""

from wavefold.data.split import Fold, holdout, kfold
from wavefold.domains.heartbeat.crop import CropTail
from wavefold.domains.radio.inject import Inject
from wavefold.domains.spectra.continuum import Continuum
from wavefold.transforms.augment import Augmentation, Flip, Gain, Noise, Roll, Shift, Stretch, Wander
from wavefold.transforms.balance import Balancer, GanBalance, Repeat, Smote
from wavefold.transforms.mixup import Mixer, Mixup, PairMixer
from wavefold.transforms.scale import Scale, Standardise, Transform

SPLITS = {"holdout": holdout, "kfold": kfold}

TRANSFORMS: dict[str, type[Transform]] = {
    "continuum": Continuum,
    "crop_tail": CropTail,
    "scale": Scale,
    "standardise": Standardise,
}

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "noise": Noise,
    "shift": Shift,
    "gain": Gain,
    "stretch": Stretch,
    "wander": Wander,
    "flip": Flip,
    "roll": Roll,
}

MIXERS: dict[str, type[Mixer] | type[PairMixer]] = {"inject": Inject, "mixup": Mixup}

BALANCERS: dict[str, type[Balancer]] = {"smote": Smote, "gan": GanBalance, "repeat": Repeat}

__all__ = [
    "AUGMENTATIONS",
    "BALANCERS",
    "MIXERS",
    "SPLITS",
    "TRANSFORMS",
    "Augmentation",
    "Balancer",
    "Continuum",
    "CropTail",
    "Flip",
    "Fold",
    "Gain",
    "GanBalance",
    "Inject",
    "Mixer",
    "Mixup",
    "Noise",
    "PairMixer",
    "Repeat",
    "Roll",
    "Scale",
    "Shift",
    "Smote",
    "Standardise",
    "Stretch",
    "Transform",
    "Wander",
    "holdout",
    "kfold",
]
