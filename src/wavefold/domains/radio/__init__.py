"""Radio cadences from the search for extraterrestrial signals: six scans, alternately ON and OFF a star."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.radio.augment import Flip, Roll
from wavefold.domains.radio.cadence import MIRRORS
from wavefold.domains.radio.charts import draw_cadences, draw_explained_cadences
from wavefold.domains.radio.dedoppler import DeDoppler
from wavefold.domains.radio.efficientnet import EfficientNetB0, EfficientNetB3
from wavefold.domains.radio.inject import Inject
from wavefold.domains.radio.layouts import LAYOUTS
from wavefold.domains.radio.observation import is_scan
from wavefold.domains.radio.on_off import OnOff
from wavefold.domains.radio.search import search_scans
from wavefold.domains.radio.simulate import simulate_cadences
from wavefold.domains.radio.write import write_cadences

DOMAIN = Domain(
    name="radio",
    words=Words(sample=("cadence", "cadences"), group=("background", "backgrounds")),
    layouts=LAYOUTS,
    simulators={"cadence": simulate_cadences},
    writers={"cadence": write_cadences},
    models={"on_off": OnOff, "efficientnet_b0": EfficientNetB0, "efficientnet_b3": EfficientNetB3},
    classifiers={"dedoppler": DeDoppler},
    augmentations={"flip": Flip, "roll": Roll},
    mixers={"inject": Inject},
    mirrors=MIRRORS,
    searches=is_scan,
    search=search_scans,
    axis_title="frequency channel",
    draw_samples=draw_cadences,
    draw_explanations=draw_explained_cadences,
)
