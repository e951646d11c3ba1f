"""What happens to signals before a net sees them: split, scaled, cropped, balanced, augmented. One table for each."""

from wavefold.prepare.augment import Augmentation, Gain, Noise, Shift, Stretch, Wander
from wavefold.prepare.balance import Balancer, GanBalance, Repeat, Smote
from wavefold.prepare.continuum import Continuum
from wavefold.prepare.crop import CropTail
from wavefold.prepare.scale import Scale, Standardise, Transform
from wavefold.prepare.split import Fold, holdout, kfold

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
}

BALANCERS: dict[str, type[Balancer]] = {"smote": Smote, "gan": GanBalance, "repeat": Repeat}

__all__ = [
    "AUGMENTATIONS",
    "BALANCERS",
    "SPLITS",
    "TRANSFORMS",
    "Augmentation",
    "Balancer",
    "Continuum",
    "CropTail",
    "Fold",
    "Gain",
    "GanBalance",
    "Noise",
    "Repeat",
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
