"""PhotometricConfig: how much light and camera may differ, as `config/train/*.yaml` say it."""

from dataclasses import dataclass

from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class PhotometricConfig:
    """How much light and camera may differ; the default changes nothing.

    Attributes:
        shadow: probability of hard shadows, 1 to 3 bands that keep 0.15 to 0.6 of the light.
        dapple: probability of spots of sun and shade, as under trees.
        glare: probability of a veil of light that is strongest at the upper border.
        exposure: largest change in stops; what gets too bright is cut off.
        gamma: largest change of the tone curve's exponent, as a share: at 0.3 from 1/1.3 to 1.3.
        white_balance: standard deviation of the logarithm of each colour's gain.
        blur: largest sigma in pixels.
        noise: largest standard deviation at mid grey, of 255.
        jpeg: lowest quality, 1 to 100; 100 doesn't compress.
    """

    shadow: float = 0.0
    dapple: float = 0.0
    glare: float = 0.0
    exposure: float = 0.0
    gamma: float = 0.0
    white_balance: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100

    def __post_init__(self) -> None:
        for name in ("shadow", "dapple", "glare"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: give a probability, 0 to 1")
        for name, most in (
            ("exposure", 5), ("gamma", 2), ("white_balance", 1), ("blur", 10), ("noise", 100)
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} is {getattr(self, name)}: give 0 to {most}")
        if not 1 <= self.jpeg <= 100:
            raise ConfigError(f"jpeg is {self.jpeg}: give the lowest quality, 1 to 100")
