"""Radio cadences from the search for extraterrestrial signals: six scans, alternately ON and OFF a star."""

from wavefold.domains.base import Domain, Words
from wavefold.domains.radio.cadence import MIRRORS
from wavefold.domains.radio.charts import draw_cadences, draw_explained_cadences
from wavefold.domains.radio.layouts import LAYOUTS
from wavefold.domains.radio.observation import is_scan
from wavefold.domains.radio.search import search_scans
from wavefold.domains.radio.write import write_cadences

DOMAIN = Domain(
    name="radio",
    words=Words(sample=("cadence", "cadences"), group=("background", "backgrounds")),
    layouts=LAYOUTS,
    simulators={"cadence": "wavefold.domains.radio.simulate:simulate_cadences"},
    writers={"cadence": write_cadences},
    models={
        "on_off": "wavefold.domains.radio.on_off:OnOff",
        "efficientnet_b0": "wavefold.domains.radio.efficientnet:EfficientNetB0",
        "efficientnet_lite0": "wavefold.domains.radio.efficientnet:EfficientNetLite0",
        "efficientnet_b3": "wavefold.domains.radio.efficientnet:EfficientNetB3",
    },
    classifiers={"dedoppler": "wavefold.domains.radio.dedoppler:DeDoppler"},
    augmentations={"flip": "wavefold.domains.radio.augment:Flip", "roll": "wavefold.domains.radio.augment:Roll"},
    mixers={"inject": "wavefold.domains.radio.inject:Inject"},
    mirrors=MIRRORS,
    searches=is_scan,
    search=search_scans,
    axis_title="frequency channel",
    draw_samples=draw_cadences,
    draw_explanations=draw_explained_cadences,
)
