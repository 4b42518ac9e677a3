"""Which topics of a bag are meant, by what they carry."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd3d_core.data.bag.reader import BagReader
from kd3d_core.errors import DataError, listed, shown
from kd3d_core.messages.types import CameraInfo, CompressedImage, Image, Message


@dataclass(frozen=True)
class CameraTopics:
    """A camera's topics: images, raw or compressed, and their CameraInfo."""

    images: str
    infos: str


def topics_of(reader: BagReader, *kinds: type[Message]) -> list[str]:
    """Names of the topics with messages of one of these kinds."""
    types = [kind.ros_type for kind in kinds]
    return [topic.name for topic in reader.topics.values() if topic.type in types and topic.count]


def choose_topic(
    reader: BagReader,
    kinds: Sequence[type[Message]],
    given: str = "",
    *,
    among: Sequence[str] | None = None,
    preferred: Sequence[str] = (),
    option: str = "",
) -> str:
    """The topic with messages of a kind.

    Args:
        given: the user's choice; empty: the only one.
        among: topics to choose from; default: all that have such messages.
        preferred: taken instead of the only one, the first that is there.
        option: the user's option to choose with, for the error.

    Raises:
        DataError: there is none, or several; says what the bag has instead.
    """
    found = topics_of(reader, *kinds)
    words = " or ".join(kind.ros_type.replace("/msg/", "/") for kind in kinds)
    if given:
        if given in found:
            return given
        other = f", but {reader.topics[given].type}" if given in reader.topics else ""
        raise DataError(
            f"{reader.path}: no {words} on {shown(given)}{other}; there is {listed(found)}"
        )
    found = found if among is None else [name for name in found if name in among]
    for name in preferred:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    if found:
        choice = f": choose with {option}" if option else ""
        raise DataError(f"{reader.path}: {words} is on {listed(found)}{choice}")
    there = [f"{topic.name} ({topic.type})" for topic in reader.topics.values()]
    there += [f"{name} (no ROS 2 messages)" for name in reader.foreign]
    raise DataError(f"{reader.path}: there is no {words} in it; it has {listed(there)}")


def choose_camera(
    reader: BagReader,
    images: str = "",
    infos: str = "",
    options: tuple[str, str] = ("--image-topic", "--info-topic"),
) -> CameraTopics:
    """The topics of a camera.

    Args:
        images: the user's choice; empty: the only one, raw where it is there compressed as well.
        infos: the user's choice; empty: the one beside the images, else the only one.
        options: the user's options to choose the two with, for errors.
    """
    found = topics_of(reader, Image, CompressedImage)
    single = [name for name in found if not _is_depth_or_copy(name, found)]
    images = choose_topic(reader, (Image, CompressedImage), images, among=single, option=options[0])
    folders = (_raw_name(images).rpartition("/")[0], images.rpartition("/")[0])
    beside = [f"{folder}/camera_info" for folder in folders]
    infos = choose_topic(reader, (CameraInfo,), infos, preferred=beside, option=options[1])
    return CameraTopics(images, infos)


def _is_depth_or_copy(topic: str, images: Sequence[str]) -> bool:
    """Whether a topic has compressed depth, or the same images as another one, compressed."""
    return topic.endswith("/compressedDepth") or (
        _raw_name(topic) != topic and _raw_name(topic) in images
    )


def _raw_name(topic: str) -> str:
    """Where image_transport has the raw images of a topic with compressed ones."""
    return topic.removesuffix("/compressed")
