"""From the student's channels to the teacher's, place by place."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn


class Projectors(nn.Module):
    """A 1x1 convolution for every feature map that is compared.

    Teacher and student may start from the same weights, and features compared as they are would
    then teach little: the projector lets the student keep a language of its own.
    """

    def __init__(self, channels: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """
        Args:
            channels: by place, the student's and the teacher's channels of each of its maps.
        """
        super().__init__()
        self.places = nn.ModuleDict(
            {
                place: nn.ModuleList(nn.Conv2d(student, teacher, 1) for student, teacher in pairs)
                for place, pairs in channels.items()
            }
        )

    def forward(self, place: str, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """A place's maps `(B, C_student, h, w)` as `(B, C_teacher, h, w)`."""
        layers = self.places[place]
        assert isinstance(layers, nn.ModuleList)
        return [layer(map_) for layer, map_ in zip(layers, maps, strict=True)]
