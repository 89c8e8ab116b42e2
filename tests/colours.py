"""How far apart two colours look: CIEDE2000, in normal vision and as two kinds of colour-blind readers see them."""

import numpy as np
from matplotlib.colors import to_rgb

VISION = {  # matrices on linear RGB of Machado, Oliveira & Fernandes (2009), severity 1
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])  # D65


def lab(colour: str, vision: str = "normal") -> np.ndarray:
    """L*, a*, b* of a colour as someone with this vision sees it."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    parts = TO_XYZ @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / WHITE
    x, y, z = np.where(parts > 216 / 24389, np.cbrt(parts), (24389 / 27 * parts + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: np.ndarray, other: np.ndarray) -> float:
    """The colour difference ΔE00 of two (L*, a*, b*), as in Sharma, Wu & Dalal (2005)."""
    lightness, a, b = np.stack([one, other]).T
    mean = np.hypot(a, b).mean()
    a = a * (1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7)))
    chroma, hue = np.hypot(a, b), np.arctan2(b, a)
    turn = (hue[1] - hue[0] + np.pi) % (2 * np.pi) - np.pi if chroma.all() else 0.0
    middle = np.degrees(hue[0] + turn / 2) if chroma.all() else np.degrees(hue.sum())
    step = np.array([lightness[1] - lightness[0], chroma[1] - chroma[0], 2 * np.sqrt(chroma.prod()) * np.sin(turn / 2)])
    light, strength = lightness.mean(), chroma.mean()
    waves = zip((-0.17, 0.24, 0.32, -0.2), (1, 2, 3, 4), (-30, 0, 6, -63))
    shape = 1 + sum(size * np.cos(np.radians(times * middle + shift)) for size, times, shift in waves)
    off = (light - 50) ** 2
    scaled = step / [1 + 0.015 * off / np.sqrt(20 + off), 1 + 0.045 * strength, 1 + 0.015 * strength * shape]
    bend = np.radians(60 * np.exp(-((((middle % 360) - 275) / 25) ** 2)))
    rotation = -2 * np.sqrt(strength**7 / (strength**7 + 25.0**7)) * np.sin(bend)
    return float(np.sqrt((scaled**2).sum() + rotation * scaled[1] * scaled[2]))


def apart(one: str, other: str, vision: str = "normal") -> float:
    """How far apart two colours look to someone with this vision: 1 can just be seen, above 10 is clear at a glance."""
    return ciede2000(lab(one, vision), lab(other, vision))
