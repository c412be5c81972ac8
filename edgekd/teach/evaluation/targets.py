"""What a starter teacher is meant to reach, and whether it does."""

from __future__ import annotations

from edgekd.teach.evaluation.figures import ratio
from edgekd.teach.evaluation.schema import AutoencoderFigures, Ceilings, QualityTarget, Sets

SHARE_OF_REAL_R1 = 0.70
ACCURACY = 0.90
FD_OVER_AUTOENCODER = 2.0
PSNR_DB = 30.0
# With fewer pictures the bias of FD outweighs the difference, and the ratio says nothing.
FD_SAMPLES = 1000


def target(
    name: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    enough: bool = True,
) -> QualityTarget:
    """A figure beside its limits; `enough`: it is of enough pictures to say something."""
    if value is None or not enough:
        return QualityTarget(name=name, value=value, low=low, high=high, reached=None)
    reached = (low is None or value >= low) and (high is None or value <= high)
    return QualityTarget(name=name, value=value, low=low, high=high, reached=reached)


def check_targets(
    sets: Sets, probes: Ceilings, autoencoder: AutoencoderFigures
) -> list[QualityTarget]:
    """The targets for known pairs and for the autoencoder on new labels.

    The style probe is not perfect on real images: what it finds in generated ones is held
    against the target as it is, and as a share of what it finds in held-out real ones.
    """
    known, generated = sets.known, sets.known.rows.generated
    return [
        target("R@1, share of real images'", known.r1_over_real, low=SHARE_OF_REAL_R1),
        target("style accuracy", generated.style.accuracy, low=ACCURACY),
        target(
            "style accuracy, share of real images'",
            ratio(generated.style.accuracy, probes.style.accuracy),
            low=ACCURACY,
        ),
        target("background accuracy", generated.background.accuracy, low=ACCURACY),
        target(
            "FD, times that of the autoencoder",
            known.fd_over_autoencoder,
            high=FD_OVER_AUTOENCODER,
            enough=known.prompts >= FD_SAMPLES,
        ),
        target("PSNR on new labels in dB", autoencoder.new_label.psnr_db, PSNR_DB),
    ]
