"""The npm packages that the starter's images and words come from, pinned by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """An npm package, pinned by version and by the SHA-512 of its tarball (as npm writes it)."""

    name: str
    version: str
    sha512: str

    @property
    def spec(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class Style:
    """One icon set: its name in captions, its package and licence.

    `naming` says how the set's name of an emoji is found: by code point in the set's own
    table or in that of the `flat` style, by the emoji's label, or as the name of a file.
    """

    name: str
    package: Package
    license: str
    naming: Literal["code", "flat", "label", "file"]


EMOJIBASE = Package(
    "emojibase-data",
    "17.0.0",
    "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
NOTO = Style(
    "noto",
    Package(
        "@iconify-json/noto",
        "1.2.9",
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "Apache-2.0",
    "code",
)
BLOB = Style(
    "blob",
    Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "Apache-2.0",
    "label",
)
TWEMOJI = Style(
    "twemoji",
    Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "CC-BY-4.0",
    "code",
)
FLUENT = Style(
    "fluent",
    Package(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
    "MIT",
    "flat",
)
FLAT = Style(
    "flat",
    Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "MIT",
    "code",
)
EMOJIONE = Style(
    "emojione",
    Package(
        "@iconify-json/emojione",
        "1.2.3",
        "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "CC-BY-4.0",
    "label",
)
FLUENT_3D = Style(
    "3d",
    Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
    "MIT",
    "file",
)
# The order of styles within each emoji in the table.
STYLES = (NOTO, BLOB, TWEMOJI, FLUENT, FLAT, EMOJIONE, FLUENT_3D)
