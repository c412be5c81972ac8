"""What a starter teacher is meant to reach, and whether it does."""

from __future__ import annotations

from typing import Any, NamedTuple

from edgekd.teach.evaluation.figures import ratio

SHARE_OF_REAL_R1 = 0.70
ACCURACY = 0.90
FD_OVER_AUTOENCODER = 2.0
PSNR_DB = 30.0
# With fewer pictures the bias of FD outweighs the difference, and the ratio says nothing.
FD_SAMPLES = 1000


class QualityTarget(NamedTuple):
    """`reached` is None where the figure could not be taken, or not of enough pictures."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    reached: bool | None


def target(
    name: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    enough: bool = True,
) -> QualityTarget:
    """A figure beside its limits; `enough`: it is of enough pictures to say something."""
    if value is None or not enough:
        return QualityTarget(name, value, low, high, None)
    reached = (low is None or value >= low) and (high is None or value <= high)
    return QualityTarget(name, value, low, high, reached)


def check_targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets for known pairs and for the autoencoder on new labels.

    The style probe is not perfect on real images: what it finds in generated ones is held
    against the target as it is, and as a share of what it finds in held-out real ones.
    """
    known = result["sets"]["known"]
    generated = known["rows"]["generated"]
    rows = [
        target("R@1, share of real images'", known["r1_over_real"], low=SHARE_OF_REAL_R1),
        target("style accuracy", generated["style"]["accuracy"], low=ACCURACY),
        target(
            "style accuracy, share of real images'",
            ratio(generated["style"]["accuracy"], result["probes"]["style"]["accuracy"]),
            low=ACCURACY,
        ),
        target("background accuracy", generated["background"]["accuracy"], low=ACCURACY),
        target(
            "FD, times that of the autoencoder",
            known["fd_over_autoencoder"],
            high=FD_OVER_AUTOENCODER,
            enough=known["prompts"] >= FD_SAMPLES,
        ),
        target("PSNR on new labels in dB", result["autoencoder"]["new_label"]["psnr_db"], PSNR_DB),
    ]
    return [row._asdict() for row in rows]
